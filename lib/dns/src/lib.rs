//! DNS for captured pods and for the lab: names of the mesh are answered here, everything else is forwarded.
//!
//! [`answer`] is pure: a query's bytes and a [`Resolver`] in, a [`Reply`] out. [`Server`] is the thin asynchronous shell
//! around it, and [`Forwarder`] passes on what is not ours, byte for byte, so that record types, operations and
//! extensions unknown to this crate keep working.
//!
//! This crate deliberately has no cache, no policy, and no search path (the client's libc expands short names), and
//! it opens no upstream socket by itself: [`Upstream`] does, because those sockets belong in the pod's network
//! namespace.

mod answer;
mod forward;
mod framing;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod message;
mod resolv_conf;
mod server;

pub use answer::{ANSWER_TTL, Forward, NEGATIVE_TTL, Reply, Resolver, Transport, answer};
pub use forward::{ANSWER_DEADLINE, ForwardError, Forwarder, MAX_SERVERS, TRY_DEADLINE, Upstream};
pub use message::is_answer;
pub use resolv_conf::name_servers;
pub use server::{
    DRAIN_DEADLINE, LookupError, MAX_CONNECTIONS, MAX_FORWARDS, MAX_FOUND, MAX_PIPELINED, Observer,
    QueryInfo, Server, Silent, TCP_IDLE_DEADLINE,
};
