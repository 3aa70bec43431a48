//! What this process spends the processor on, and who holds its memory, as profiles that common tools open.
//!
//! `sys::sampling` interrupts the threads that run and copies registers and stack, nothing else. Everything that needs
//! memory or locks is done here, on the caller's thread: following the frames by the unwind tables of the program and
//! its libraries, finding the names of functions, and writing pprof's format.
//!
//! Samples of memory are the allocator's own (`sys::heap`, feature `heap`); its account of them is read and named here.
//!
//! Deliberately not here: signals, and the allocator.

mod cpu;
#[cfg(feature = "heap")]
mod heap;
mod modules;
mod names;
mod pprof;
mod stacks;
mod unwind;

pub use cpu::{CpuSettings, MAX_DURATION, ProfileError, cpu};
#[cfg(feature = "heap")]
pub use heap::{HeapProfileError, heap};
pub use modules::MAX_SECTION;
pub use pprof::messages;
pub use stacks::MAX_STACKS;
pub use sys::sampling::MAX_FREQUENCY;
pub use unwind::MAX_FRAMES;
