//! Mount attributes: the one call of the new mount interface that rustix lacks.

use rustix::fs::AtFlags;
use rustix::io;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `MOUNT_ATTR_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags(u64);

impl MountFlags {
    /// No writing.
    pub const RDONLY: Self = Self(0x1);
    /// Set-user-id bits have no effect.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes have no effect.
    pub const NODEV: Self = Self(0x4);
    /// Nothing is executed.
    pub const NOEXEC: Self = Self(0x8);
    /// Access times are not updated.
    pub const NOATIME: Self = Self(0x10);
    /// The bits that choose how access times are kept; clear all of them to choose another.
    pub const ATIME_MASK: Self = Self(0x70);
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: Self = Self(0x20_0000);

    /// No bit.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The bits as the kernel counts them.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Any bits, for a caller that has them as a number. `MOUNT_ATTR_IDMAP` goes by [`MountAttr::userns`] instead.
    pub const fn from_bits_retain(bits: u64) -> Self {
        Self(bits)
    }
}

impl std::ops::BitOr for MountFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// What [`mount_setattr`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr<'a> {
    /// Bits to set.
    pub set: MountFlags,
    /// Bits to clear.
    pub clear: MountFlags,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0 for no change.
    pub propagation: u64,
    /// A user namespace whose id mappings the mount takes. Only a detached mount accepts this, and only once.
    pub userns: Option<BorrowedFd<'a>>,
}

/// `struct mount_attr`, version 0.
#[repr(C)]
#[derive(Debug)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `mount_setattr(2)`. Of `flags` the kernel takes `EMPTY_PATH`, `RECURSIVE`, `SYMLINK_NOFOLLOW` and `NO_AUTOMOUNT`.
pub fn mount_setattr(
    directory: impl AsFd,
    path: &CStr,
    flags: AtFlags,
    attr: &MountAttr<'_>,
) -> io::Result<()> {
    let mut raw = RawMountAttr {
        attr_set: attr.set.0,
        attr_clr: attr.clear.0,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    if let Some(userns) = attr.userns {
        raw.attr_set |= MOUNT_ATTR_IDMAP;
        raw.userns_fd = u64::try_from(userns.as_raw_fd()).map_err(|_| io::Errno::BADF)?;
    }
    // SAFETY: the path is NUL-terminated and `raw` is a live mount_attr whose exact size is given; the kernel only reads
    // both. Every descriptor is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags.bits(),
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(crate::last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

    #[test]
    fn a_detached_mount_becomes_read_only() {
        assert_eq!(size_of::<RawMountAttr>(), 32);
        let context = match fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(io::Errno::PERM | io::Errno::NOSYS) => return skip("mounting needs root here"),
            other => other.unwrap(),
        };
        fsconfig_create(&context).unwrap();
        let tmpfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let make = |name| rustix::fs::mkdirat(&tmpfs, name, rustix::fs::Mode::RWXU);
        make(c"before").unwrap();
        let attr = MountAttr { set: MountFlags::RDONLY | MountFlags::NOSUID, ..MountAttr::default() };
        mount_setattr(&tmpfs, c"", AtFlags::EMPTY_PATH, &attr).unwrap();
        assert_eq!(make(c"after"), Err(io::Errno::ROFS));
    }

    #[test]
    fn a_directory_that_is_no_mount_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(directory.path()).unwrap();
        let refused = mount_setattr(
            &file,
            c"",
            AtFlags::EMPTY_PATH,
            &MountAttr { set: MountFlags::RDONLY, ..MountAttr::default() },
        );
        assert!(matches!(refused, Err(io::Errno::INVAL | io::Errno::PERM)), "{refused:?}");
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
