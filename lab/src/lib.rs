//! A whole mesh on one Linux machine: nodes and pods are network namespaces joined by veth pairs and bridges, pods
//! run ordinary processes, and plain Kubernetes YAML is the input. It is the demo, the development environment and
//! the bed of the end-to-end tests.
//!
//! What it is not: it holds no product logic. Capture, identity, policy and certificates are made by the real
//! `ztunnel`, `node-agent` and `control-plane`, which the lab only starts. It is not a Kubernetes either: its small
//! controllers do for a handful of kinds what a user sees of them (scheduling, addresses, Deployments,
//! EndpointSlices, Ready), and nothing more. It never touches the host's own network.

pub mod app;
mod authority;
mod change;
mod cleanup;
mod control;
mod controllers;
mod down;
mod error;
mod exec;
mod http;
mod layout;
mod lock;
mod logs;
mod manifests;
mod nat;
mod network;
mod options;
mod plan;
mod settle;
mod status;
mod supervisor;
mod up;
mod zone;

pub use authority::{Issued, RootQuestion, roots, roots_at};
pub use change::{Change, apply, delete, find, label, objects};
pub use control::{FaultRequest, RestartHow, fault, kubeconfig, restart, status};
pub use down::{Ended, down};
pub use error::LabError;
pub use exec::exec;
pub use layout::Layout;
pub use logs::log_files;
pub use manifests::Manifests;
pub use options::{LabOptions, Programs};
pub use status::{ContainerView, KubeApiView, LabStatus, NodeView, PodView, ProcessView};
pub use supervisor::Progress;
pub use up::{supervise, up};
