//! What the end-to-end tests stand on: a lab brought up by the built `ztctl` as a user would, sockets opened inside
//! its pods, packet captures on its wires, and waiting for conditions.
//!
//! What it is not: it never asks the programs whether they did right, and links none of them. `sys` is used to enter
//! namespaces, nothing else of the product; peers that lie are made of rustls and h2 directly. A failed expectation
//! panics with what was seen.

#![allow(clippy::unwrap_used)] // Test code: a panic is a failed test.

mod api;
mod capture;
pub mod dns;
mod echo;
mod footprint;
mod guard;
mod hbone_peer;
mod http;
mod lab;
pub mod manifests;
mod metrics;
mod node;
mod pcap;
mod place;
mod pod;
mod program;
mod random;
mod responder;
mod root;
pub mod stamps;
mod tls_peer;
pub mod tls_wire;
mod wait;

pub use api::Api;
pub use capture::Capture;
pub use dns::{Answer, NameServer, query};
pub use echo::{echo, echo_once, serve_echo};
pub use footprint::{Footprint, leftovers, processes_naming};
pub use hbone_peer::{Answer as HboneAnswer, Behaviour, HBONE_PORT, HboneClient, Impostor, Seen, StandStill};
pub use http::{Response, http_get};
pub use lab::Lab;
pub use metrics::sum as metric;
pub use node::Node;
pub use pcap::{Packet, Transport};
pub use place::Place;
pub use pod::Pod;
pub use program::{Output, binary, interruptible, run, ztctl};
pub use random::Random;
pub use responder::{Reply, Responder, ask, ask_within};
pub use root::require_root;
pub use tls_peer::{Claims, Credentials, Signer};
pub use wait::{eventually, eventually_some};
