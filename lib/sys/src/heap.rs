//! The heap of a program whose global allocator is [`Allocator`] (jemalloc): how large it is, and who has allocated what
//! is still in use, by samples.
//!
//! The allocator takes samples by itself, with the C runtime's unwinder, once [`sample`] has told it to; until then
//! that costs nothing. Only what goes through Rust's allocator is known to it: C code has the C library's heap.

use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::ptr;
use tikv_jemalloc_sys::mallctl;

/// A program declares it as its `#[global_allocator]`.
pub use tikv_jemallocator::Jemalloc as Allocator;

/// For each so many bytes that are allocated there is about one sample.
pub const SAMPLED_BYTES: usize = 512 << 10;

/// The longest account of the samples that is read, in bytes.
pub const MAX_ACCOUNT: u64 = 32 << 20;

/// What jemalloc reads under this name when the program starts (jemalloc(3), TUNING): samples can be taken, of one in
/// 2^19 bytes ([`SAMPLED_BYTES`]), but are not; what is not used is given back within 5 s; no huge pages, which would
/// keep a whole one in memory for a few bytes.
// SAFETY: nothing else in a program has this name, and it is what jemalloc expects there: a pointer to text that ends
// with a zero byte.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 76] = b"prof:true,prof_active:false,lg_prof_sample:19,dirty_decay_ms:5000,thp:never\0";

/// Why the allocator does not say or do something.
#[derive(Debug, thiserror::Error)]
pub enum HeapError {
    /// It refused.
    #[error("the allocator refuses {name}: {error}")]
    Refused {
        /// What was asked of it, a name of jemalloc(3), MALLCTL NAMESPACE.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// Its account of the samples cannot be read.
    #[error("what the allocator has sampled cannot be read: {0}")]
    Account(#[from] io::Error),
}

/// How large the heap is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Asked for by the program and in use.
    pub allocated: usize,
    /// In memory on behalf of that, what is free in between and the allocator's own included.
    pub resident: usize,
    /// Addresses kept for later that take no memory.
    pub retained: usize,
}

/// How large the heap is.
///
/// # Errors
/// [`HeapError::Refused`].
pub fn figures() -> Result<Figures, HeapError> {
    // The figures are of the last time that this was written.
    write(c"epoch", 1_u64)?;
    Ok(Figures {
        allocated: read(c"stats.allocated", 0)?,
        resident: read(c"stats.resident", 0)?,
        retained: read(c"stats.retained", 0)?,
    })
}

/// Has threads of the allocator give back what is not used, also while the program allocates nothing.
///
/// # Errors
/// [`HeapError::Refused`], where the allocator cannot have threads.
pub fn give_back_in_background() -> Result<(), HeapError> {
    write(c"background_thread", true)
}

/// Whether samples are being taken.
///
/// # Errors
/// [`HeapError::Refused`].
pub fn is_sampled() -> Result<bool, HeapError> {
    read(c"prof.active", false)
}

/// Begins to take samples, or ends it. What is allocated before the beginning is not in them, and at the end they are
/// forgotten.
///
/// # Errors
/// [`HeapError::Refused`].
pub fn sample(wanted: bool) -> Result<(), HeapError> {
    write(c"prof.active", wanted)?;
    if !wanted {
        write(c"prof.reset", SAMPLED_BYTES.trailing_zeros() as usize)?;
    }
    Ok(())
}

/// The allocator's account of what is in use of the samples, in the text form of its own tool (jeprof), at most
/// [`MAX_ACCOUNT`] bytes of it. Blocks; allocations go on meanwhile.
///
/// # Errors
/// [`HeapError`].
pub fn account() -> Result<Vec<u8>, HeapError> {
    // It writes to a file by name; this one is on no disk, as there may be none that can be written to.
    let file = File::from(memfd_create(c"heap", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io::Error::other)?;
    write(c"prof.dump", path.as_ptr())?;
    let mut account = Vec::new();
    file.take(MAX_ACCOUNT).read_to_end(&mut account)?;
    Ok(account)
}

/// Reads a value of the type that `name` has in jemalloc(3); one of another size is refused.
fn read<T: Copy>(name: &CStr, mut value: T) -> Result<T, HeapError> {
    let mut size = size_of::<T>();
    let place = (&raw mut value).cast();
    // SAFETY: the name ends with a zero byte; `place` has room for `size` bytes; there is nothing to be set.
    answered(name, unsafe {
        mallctl(name.as_ptr(), place, &raw mut size, ptr::null_mut(), 0)
    })?;
    Ok(value)
}

/// Sets a value of the type that `name` has in jemalloc(3); one of another size is refused.
fn write<T: Copy>(name: &CStr, mut value: T) -> Result<(), HeapError> {
    let place = (&raw mut value).cast();
    // SAFETY: the name ends with a zero byte; `place` has `size_of` bytes, which are only read; nothing is read back.
    // What `prof.dump` points to outlives the call, which copies what it keeps.
    answered(name, unsafe {
        mallctl(
            name.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            place,
            size_of::<T>(),
        )
    })
}

fn answered(name: &CStr, code: i32) -> Result<(), HeapError> {
    match code {
        0 => Ok(()),
        code => Err(HeapError::Refused {
            name: name.to_string_lossy().into_owned(),
            error: io::Error::from_raw_os_error(code),
        }),
    }
}

#[cfg(test)]
mod tests;
