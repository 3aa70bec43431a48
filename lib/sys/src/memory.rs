//! Memory that the C library's allocator keeps.

/// Gives back to the kernel what the C library's allocator keeps of freed memory (malloc_trim(3)): by itself it does so
/// only with what is free at the end of its heaps. Returns whether there was any. Blocks, and whoever allocates
/// meanwhile may have to wait: a few milliseconds. Other C libraries than GNU's have nothing of the kind.
pub fn give_back() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
        unsafe { libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

#[cfg(test)]
mod tests;
