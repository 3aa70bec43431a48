//! The built programs against a real Kubernetes API server, with what the chart gives them.

#![allow(clippy::unwrap_used)]

mod control_plane;
mod equal;
mod faults;
mod helm;
mod leaving;
mod mesh;
mod support;
mod ztctl;
