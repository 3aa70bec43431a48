//! The node agent: enrols the pods of its node in the mesh and takes them out again.
//!
//! For each pod to be enrolled it puts redirection rules into the pod's network namespace, hands the namespace to the
//! node proxy over ZDS, and writes the annotation `ambient.istio.io/redirection` once the proxy has acknowledged it. In
//! between, the rules lead to ports on which nobody listens: the kernel refuses, nothing leaves uncaptured.
//!
//! What this crate deliberately is not: it is not on the path of any byte, decides nothing about connections, and makes
//! no network namespaces. When it stops, what it has enrolled stays enrolled, and what leaves is let go of first.
//!
//! [`plan`] decides what to do next for a pod and [`rules`] what its rules are, both without I/O; [`tracker`] says which
//! pods are wanted; the rest carries it out.

pub mod agent;
pub mod config;
mod farewell;
pub mod finder;
pub mod firewall;
pub mod health;
pub mod plan;
pub mod pod;
pub mod preflight;
pub mod proxies;
pub mod rules;
pub mod status;
#[cfg(test)]
mod test_support;
pub mod tracker;

pub use agent::{AgentError, CHECK_INTERVAL, Settings, run};
pub use config::{Config, NoFinder};
pub use farewell::LONGEST_FAREWELL;
pub use finder::{FindError, NamespaceFinder, PinnedNamespaces, ProcessNamespaces};
pub use preflight::{NotReady, Preflight};
pub use status::{PodState, PodStatus, Status};
