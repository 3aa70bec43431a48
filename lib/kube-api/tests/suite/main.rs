//! The server as its clients see it.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

mod common;
mod kubectl;
mod verbs;
mod watches;
