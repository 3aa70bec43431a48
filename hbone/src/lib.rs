//! HBONE tunnels: HTTP/2 CONNECT (RFC 9113 §8.5) over any byte stream, in practice mTLS over TCP.
//!
//! - [`client`] opens tunnels on one connection, [`server`] accepts them, [`pool`] keeps client connections.
//! - A [`Tunnel`] is one stream of such a connection. It is a [`relay::End`], and `AsyncRead` + `AsyncWrite` for
//!   whatever runs inside it.
//! - A [`budget::Budget`] bounds what all connections of a process buffer together.
//! - [`Settings`] holds every window, limit and interval, with the defaults that Istio's node proxy uses.
//!
//! What it deliberately is not: it knows no workload, identity or policy, it does not read what an authority or a
//! header means, and it neither dials nor listens. No type of the HTTP/2 library appears in its interface, so the
//! engine behind it can be replaced.
//!
//! Who polls: a client connection makes progress only while its [`client::Driver`] runs, a server connection only
//! while somebody waits in [`server::Server::accept`]. Tunnels work in any task.

pub mod budget;
pub mod client;
pub mod pool;
pub mod server;

mod connection;
mod error;
mod frames;
mod headers;
mod keepalive;
mod settings;
mod tunnel;
mod vitals;
mod wire;

#[cfg(test)]
mod tests;

pub use error::{ConnectError, ConnectionEnd};
pub use headers::{Header, ResponseHeaders};
pub use settings::{ABANDONED_WINDOW, Settings};
pub use tunnel::Tunnel;
