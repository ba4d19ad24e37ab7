//! Sharing extents between files: a copy that takes no room and no time.

use rustix::io;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use std::os::fd::{AsFd, AsRawFd};

const CLONE_RANGE: Opcode = opcode::write::<Range>(0x94, 13);

/// `struct file_clone_range`.
#[repr(C)]
#[derive(Debug)]
struct Range {
    source: i64,
    source_offset: u64,
    source_length: u64,
    target_offset: u64,
}

/// Makes `length` bytes of `to` at `at` share the extents of `from` at `offset`.
///
/// Offsets are multiples of the filesystem's block, and so is the length unless it ends where `from` ends. EXDEV: not
/// the same filesystem. EOPNOTSUPP or ENOTTY: a filesystem that can't. EINVAL: not aligned.
pub fn clone_range(from: impl AsFd, offset: u64, length: u64, to: impl AsFd, at: u64) -> io::Result<()> {
    // A length of 0 would mean "to the end".
    if length == 0 {
        return Ok(());
    }
    let from = from.as_fd();
    let range = Range {
        source: i64::from(from.as_raw_fd()),
        source_offset: offset,
        source_length: length,
        target_offset: at,
    };
    // SAFETY: FICLONERANGE reads one file_clone_range, whose descriptor is borrowed for the call.
    unsafe { ioctl(to, Setter::<CLONE_RANGE, Range>::new(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_ioctl_number_is_the_kernels() {
        assert_eq!(size_of::<Range>(), 32);
        assert_eq!(CLONE_RANGE, 0x4020_940d);
    }

    #[test]
    fn a_clone_has_the_bytes_or_the_filesystem_says_that_it_cannot() {
        let mut from = tempfile::tempfile_in(".").unwrap();
        let to = tempfile::tempfile_in(".").unwrap();
        let block = vec![7; 65536];
        from.write_all(&block).unwrap();
        match clone_range(&from, 0, 65536, &to, 0) {
            Ok(()) => assert_eq!(to.metadata().unwrap().len(), 65536),
            Err(errno) => assert!(matches!(errno, io::Errno::OPNOTSUPP | io::Errno::NOTTY), "{errno:?}"),
        }
        clone_range(&from, 0, 0, &to, 0).unwrap();
    }
}
