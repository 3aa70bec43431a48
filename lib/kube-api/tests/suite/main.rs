//! The server as its clients see it.

mod common;
mod kubectl;
mod verbs;
mod watches;
