//! Files mapped into memory, for reading.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::fs::SealFlags;
use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, ProtFlags};

/// Why the bytes of a file may be taken for bytes that never change.
///
/// A mapping lends its bytes as `&[u8]`, so nobody may write to the file or shorten it while the mapping lives: what is
/// read would change under the reader, and a byte behind a new, nearer end kills the process with SIGBUS. No mapping is
/// made without one of these, so that the reason stands in the code that asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Unchanging(());

impl Unchanging {
    /// The kernel says so: a memfd sealed against writing and shrinking. `None`: it isn't one.
    pub fn sealed(file: BorrowedFd<'_>) -> Option<Self> {
        let seals = rustix::fs::fcntl_get_seals(file).ok()?;
        seals.contains(SealFlags::WRITE | SealFlags::SHRINK).then_some(Self(()))
    }

    /// The user says so, who has asked for the mapping and was told what it means if it isn't true.
    pub fn users_word() -> Self {
        Self(())
    }
}

/// The bytes of a file in memory.
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and is only ever read, so any thread may use and end it.
unsafe impl Send for Mapping {}
// SAFETY: as above: nothing is ever written through it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes, which must not be more than the file has.
    pub fn new(file: BorrowedFd<'_>, length: u64, _why: Unchanging) -> io::Result<Self> {
        let length = usize::try_from(length).ok().filter(|length| isize::try_from(*length).is_ok());
        let length = length.ok_or(Errno::NOMEM)?;
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // SAFETY: with no address asked for, the kernel chooses one where nothing else is.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the kernel mapped `length` readable bytes there (or it is 0), they stay until drop, and whoever
        // brought `Unchanging` has it from the kernel or the user that the file neither changes nor shrinks.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length != 0 {
            // SAFETY: just these bytes were mapped by `new`, and no slice of them outlives this value.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_mapping_shows_the_file_and_an_empty_one_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        let empty = Mapping::new(file.as_fd(), 0, Unchanging::users_word()).unwrap();
        assert!(empty.bytes().is_empty());
        file.write_all(b"hello").unwrap();
        let mapping = Mapping::new(file.as_fd(), 5, Unchanging::users_word()).unwrap();
        drop(file);
        assert_eq!(mapping.bytes(), b"hello");
    }

    #[test]
    fn only_a_memfd_that_can_neither_change_nor_shrink_counts_as_sealed() {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING | rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("pyerofs-test", flags).unwrap();
        assert!(Unchanging::sealed(file.as_fd()).is_none());
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
        assert!(Unchanging::sealed(file.as_fd()).is_none());
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert!(Unchanging::sealed(file.as_fd()).is_some());
        assert!(Unchanging::sealed(tempfile::tempfile().unwrap().as_fd()).is_none());
    }
}
