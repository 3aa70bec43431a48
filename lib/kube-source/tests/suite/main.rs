//! A Kubernetes API, watched and written through HTTP.

#![allow(clippy::unwrap_used)]

mod equal;
mod recovery;
mod script;
mod server;
mod support;
mod write;
