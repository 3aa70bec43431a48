//! A control plane under a large mesh: how long, how many bytes, how much memory and processor time.
//!
//! Four processes: this one steers and reports; one serves the objects over a Kubernetes API, for the memory figure; one
//! is the control plane, so that memory and processor time are its own; one holds the streams of the node proxies. They
//! are all this same program, and speak JSON by lines.

mod feed;
mod mesh;
mod plane;
mod process;
mod report;
mod skim;
mod steps;
mod streams;

pub use mesh::Size;
pub use plane::{PlaneOptions, plane, serve_objects};
pub use steps::{Options, drive};
pub use streams::{StreamOptions, hold_streams};

/// What goes wrong ends the program with its words.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
