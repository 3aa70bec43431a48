//! What the conformance suite stands on: a node proxy as a black box, and everything around it played by hand. A control
//! plane that serves discovery and signs certificates, a node agent, network namespaces as node and pods, peers at
//! either end of tunnels, applications.
//!
//! What it is not: it shares nothing with the project's own proxy but the message types, and never looks inside the
//! subject. So any program that claims the protocol can be the subject: see `docs/conformance.md`.

mod apps;
mod authority;
mod ca;
mod check;
mod control_plane;
pub mod envoy;
mod failure;
mod hbone_client;
mod hbone_server;
pub mod mesh;
mod namespace;
mod network;
mod page;
mod subject;
mod tls;
mod tunnel;
mod wait;
mod world;
mod xds;
mod zds;

pub use apps::{App, End, echoes, end, exchange_pattern, gets_nothing, pattern, rest};
pub use authority::{Authority, Claims, Credentials, spiffe};
pub use ca::{RequestFacts, Signing, SigningRequest};
pub use check::{Line, Report, Verdict as ClauseVerdict, print};
pub use control_plane::{CONTROL_PLANE_PORT, ControlPlane};
pub use failure::{Doing, Failure, Outcome};
pub use hbone_client::{Answer, HboneClient};
pub use hbone_server::{Asked, Connection, HBONE_PORT, HboneServer, Reply, ServeTunnel, ServerSettings};
pub use namespace::Namespace;
pub use network::{Addresses, Network, redirect};
pub use subject::{METRICS_PORT, READINESS_PORT, Subject, subject_path};
pub use tls::{Facts, Hello, TlsSettings, TlsStream};
pub use tunnel::Tunnel;
pub use wait::{eventually, eventually_ok, eventually_some, within};
pub use world::{Pod, TOKEN, World, accepted};
pub use xds::{Discovery, Seen, Sent, Verdict};
pub use zds::{Agent, AgentSocket};
