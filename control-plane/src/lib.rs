//! The control plane.
mod xds;
