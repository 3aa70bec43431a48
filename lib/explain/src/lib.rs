//! What the mesh would say to a connection, on these objects.
//!
//! A [`World`] is made of objects as users write them. They go the way that they go in a mesh: `compile` makes
//! workloads, services and policies of them, these are encoded and read as a node proxy reads them, and
//! `mesh::authorize` decides. So there is one engine, and what is answered here is what a node proxy does.
//!
//! What this crate deliberately is not: it does no I/O (`ztctl` reads the manifests, or the objects of a running
//! mesh), and it decides nothing itself. It knows policy, not the network between two pods: whether a connection
//! finds its way is not asked here.

mod answer;
mod ask;
mod question;
mod strict_report;
pub mod suite;
#[cfg(test)]
mod testing;
mod world;

pub use answer::{Answer, Deciding, EndpointAnswer, Ground, Tree, Unanswerable};
pub use question::{Caller, QuestionError, Target};
pub use strict_report::{Breaking, CANNOT_KNOW, KeptAway, Outsider, StaysOpen, StrictReport};
pub use world::{Basis, MAX_MADE_UP_ADDRESSES, Membership, World};
