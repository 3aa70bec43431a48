//! A real Kubernetes API server, with etcd behind it, as the peer of the built programs.
//!
//! Which ones is the reader's choice: `KUBE_APISERVER` and `ETCD` name the programs, of any version, and
//! `KUBE_CONTROLLER_MANAGER` may name a third ([`Programs::named`]); without them the tests say that they are skipped.
//! `scripts/kubernetes` runs them; `KEEP_LOGS` names a directory for what the programs said where a test fails.
//! Everything listens on loopback, lives in a temporary directory, and ends with the [`Cluster`]. There is no kubelet and no scheduler: pods are bound to nodes, and given addresses, by the test.
//!
//! The programs run with what the chart gives them: its arguments, and tokens of its service accounts, so that its
//! roles are what they live on. [`Cluster::requests`] tells by the server's own audit log what they asked for.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

mod audit;
mod chart;
mod cluster;
mod daemon;
mod http;
mod keys;
mod program;
mod server;
mod stand_ins;

pub use audit::Request;
pub use chart::Installed;
pub use cluster::{Cluster, MESH};
pub use daemon::Daemon;
pub use program::{ControlPlane, control_plane_arguments};
pub use server::Programs;
