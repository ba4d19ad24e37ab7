//! Descriptors that are known by their number alone.

use rustix::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A copy of the open descriptor `number`, closed on exec; EBADF if there is none.
///
/// For callers that are handed numbers, from Python or over an exec: the kernel checks the number, and what comes out
/// belongs to the caller alone, so nothing that another part of the program owns can be closed or confused.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes any integer and answers EBADF for one that is not open.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(crate::last_errno());
    }
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_number_that_is_not_open_is_refused_and_an_open_one_is_copied() {
        assert_eq!(duplicate(-1).unwrap_err(), io::Errno::BADF);
        assert_eq!(duplicate(RawFd::MAX).unwrap_err(), io::Errno::BADF);
        let file = tempfile::tempfile().unwrap();
        let copy = duplicate(file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        assert!(rustix::io::fcntl_getfd(&copy).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
