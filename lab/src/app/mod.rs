//! The test application: a server that tells who called it and echoes what is not HTTP, and the clients that tests
//! and people use against it. Every container without a `command` runs the server.

mod client;
mod flood;
mod hold;
mod pattern;
mod serve;
mod stream;

pub use client::{FailureKind, RequestFailed, get};
pub use flood::{FloodOptions, FloodReport, flood};
pub use hold::{HoldEnd, HoldOptions, HoldReport, hold};
pub use serve::{About, ServeOptions, serve};
pub use stream::{StreamOptions, StreamReport, stream};

/// The port that the server listens on when none is named.
pub const DEFAULT_PORT: u16 = 8080;

#[cfg(test)]
mod tests;
