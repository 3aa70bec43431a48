//! Where objects live: the traits by which the programs watch and write them, and the implementation over a
//! directory of YAML files that the lab uses.
//!
//! Control plane, node agents and the lab's small controllers know only [`ObjectSource`] and [`ObjectWriter`]; a
//! Kubernetes API is another implementation of both and changes nothing behind them.
//!
//! What this crate deliberately is not: it does not know what an object means (`objects` reads it, `compile`
//! compiles it), it schedules nothing and defaults nothing. It is no database either: a [`Directory`] is for one
//! machine, for the processes of one lab, and does not survive a power cut (it never calls `fsync`).

mod directory;
mod error;
mod source;
mod writer;

pub use directory::{Directory, MAX_OBJECT_BYTES, MAX_OBJECTS, Txn};
pub use error::{SourceError, StoreError, WriteError};
pub use source::{Batch, ObjectSource, Position, StoreChange, WatchStatus};
pub use writer::{ObjectWriter, StatusWrite};
