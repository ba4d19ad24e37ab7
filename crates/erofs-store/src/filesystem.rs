//! Telling filesystems apart by what they promise.

use rustix::io::Errno;
use std::os::fd::AsFd;

/// What a filesystem's kind means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// On a disk of this machine: inode numbers and times identify a file for good.
    Disk,
    /// In memory: what lies there takes memory, and identities end with the mount.
    Memory,
    /// Another machine, or a process, may change files behind the kernel's back.
    Network,
    /// Anything else: feature tests decide, and identities are not trusted.
    Other,
}

/// A filesystem's name and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
}

/// `f_type` of statfs(2), from the kernel's magic.h and the filesystems' own headers.
const KNOWN: &[(u32, &str, Class)] = &[
    (0x0000_ef53, "ext4", Class::Disk),
    (0x5846_5342, "xfs", Class::Disk),
    (0x9123_683e, "btrfs", Class::Disk),
    (0xf2f5_2010, "f2fs", Class::Disk),
    (0xca45_1a4e, "bcachefs", Class::Disk),
    (0x2fc1_2fc1, "zfs", Class::Disk),
    (0x0102_1994, "tmpfs", Class::Memory),
    (0x8584_58f6, "ramfs", Class::Memory),
    (0x0000_6969, "nfs", Class::Network),
    (0x0000_517b, "smbfs", Class::Network),
    (0xff53_4d42, "cifs", Class::Network),
    (0xfe53_4d42, "smb2", Class::Network),
    (0x0102_1997, "9p", Class::Network),
    (0x6573_5546, "fuse", Class::Network),
    (0x00c3_6400, "ceph", Class::Network),
    (0x5346_414f, "afs", Class::Network),
    (0x6b41_4653, "kafs", Class::Network),
    (0x7375_7245, "coda", Class::Network),
    (0x0bd0_0bd0, "lustre", Class::Network),
    (0x0116_1970, "gfs2", Class::Network),
    (0x7461_636f, "ocfs2", Class::Network),
    (0x4750_4653, "gpfs", Class::Network),
    (0x1983_0326, "beegfs", Class::Network),
    (0x2003_0528, "orangefs", Class::Network),
    (0x786f_4256, "vboxsf", Class::Network),
    (0xbacb_acbc, "vmhgfs", Class::Network),
    (0x794c_7630, "overlay", Class::Other),
    (0x0000_4d44, "vfat", Class::Other),
    (0x2011_bab0, "exfat", Class::Other),
];

/// The kind of the filesystem that holds an open file.
pub(crate) fn kind(file: impl AsFd) -> Result<Kind, Errno> {
    let statfs = rustix::fs::fstatfs(file)?;
    // Some architectures sign-extend the 32 bits of the number.
    let Ok(magic) = u32::try_from(statfs.f_type & i64::from(u32::MAX)) else {
        return Err(Errno::OVERFLOW);
    };
    Ok(by_magic(magic))
}

fn by_magic(magic: u32) -> Kind {
    KNOWN.iter().find(|(known, _, _)| *known == magic).map_or(
        Kind { name: "an unknown filesystem", class: Class::Other },
        |&(_, name, class)| Kind { name, class },
    )
}

/// Bytes that an ordinary user may still use on the filesystem.
pub(crate) fn free_bytes(file: impl AsFd) -> Result<u64, Errno> {
    let statvfs = rustix::fs::fstatvfs(file)?;
    Ok(statvfs.f_bavail.saturating_mul(statvfs.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_on_another_machines_files_is_recognised() {
        for magic in [0x6969, 0xff53_4d42, 0x0102_1997, 0x6573_5546] {
            assert_eq!(by_magic(magic).class, Class::Network, "{magic:#x}");
        }
        assert_eq!(by_magic(0xef53).class, Class::Disk);
        assert_eq!(by_magic(0x0102_1994).class, Class::Memory);
        assert_eq!(by_magic(1).class, Class::Other);
    }

    #[test]
    fn the_kernel_is_asked() {
        let proc = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(kind(&proc).unwrap().class, Class::Other);
    }
}
