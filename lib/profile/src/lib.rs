//! What this process spends the processor on, as a profile that common tools open.
//!
//! `sys::sampling` interrupts the threads that run and copies registers and stack, nothing else. Everything that needs
//! memory or locks is done here, on the caller's thread: following the frames by the unwind tables of the program and
//! its libraries, finding the names of functions, and writing pprof's format.
//!
//! Deliberately not here: signals, and profiles of memory.

mod cpu;
mod modules;
mod names;
mod pprof;
mod stacks;
mod unwind;

pub use cpu::{CpuSettings, MAX_DURATION, ProfileError, cpu};
pub use modules::MAX_SECTION;
pub use pprof::messages;
pub use stacks::MAX_STACKS;
pub use sys::sampling::MAX_FREQUENCY;
pub use unwind::MAX_FRAMES;
