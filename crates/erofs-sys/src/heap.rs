//! Memory that the allocator keeps.

/// Gives memory that is free back to the system, where the allocator can be told to.
///
/// It keeps what was freed for the threads that had allocated it; if those are gone nobody else gets it. This looks at
/// all that is free, which takes milliseconds.
pub fn give_back() {
    // SAFETY: it takes no pointer, and any thread may call it at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
