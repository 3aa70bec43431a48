//! The service and its client over a real connection: TLS with a verified name, tokens, impersonation.

#![allow(clippy::unwrap_used)]

mod service;
mod support;
