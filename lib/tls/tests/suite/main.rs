//! The whole of `tls` from outside: handshakes with certificates of our own authority and with forged ones,
//! the stream's integrity, and rustls' own buffered connection at the other end.

#![allow(clippy::unwrap_used)]

mod control_plane;
mod handshake;
mod interop;
mod refusal;
mod resumption;
mod revocation;
mod rotation;
mod settings;
mod stream;
mod support;
mod versions;
