//! Attributes as FUSE carries them.

use erofs_image::{FileType, Inode};
use fuse_dev::Attr;

use crate::control::Owners;
use crate::node::shown_number;

/// Character device 0:1 in the kernel's encoding; see [`Shown::UnderOverlay`].
const NOT_A_WHITEOUT: u32 = 1;

/// Who looks at an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Programs, directly.
    Plain,
    /// Overlayfs. To it a character device 0:0 in a lower layer says "this name was deleted", whatever its attributes, so that an image
    /// could neither show such a file nor be shown it. It is presented as device 0:1: still a character device with its owner, mode and
    /// times, off by the one number that would hide it, and never usable since every mount is `nodev`. (The escape that overlayfs has
    /// for whiteouts of its own would show an empty regular file, which is further from what the image holds.)
    UnderOverlay,
}

/// The attributes that `stat` shows.
pub(crate) fn attr(inode: &Inode, block_size: u32, owners: Option<Owners>, shown: Shown) -> Attr {
    let rdev = match (shown, inode.file_type(), inode.rdev) {
        (Shown::UnderOverlay, FileType::CharDevice, 0) => NOT_A_WHITEOUT,
        (_, _, rdev) => rdev,
    };
    let Owners { uid, gid } = owners.unwrap_or(Owners { uid: inode.uid, gid: inode.gid });
    Attr {
        ino: shown_number(inode.number),
        size: inode.size,
        blocks: inode.sectors,
        atime: inode.mtime,
        mtime: inode.mtime,
        ctime: inode.mtime,
        atime_nsec: inode.mtime_nsec,
        mtime_nsec: inode.mtime_nsec,
        ctime_nsec: inode.mtime_nsec,
        mode: u32::from(inode.mode),
        nlink: inode.nlink,
        uid,
        gid,
        rdev,
        blksize: block_size,
    }
}
