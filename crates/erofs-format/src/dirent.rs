//! Directory blocks: entries of 12 bytes, then the names they point to.
//!
//! ```text
//! | dirent 0 | dirent 1 | .. | dirent n-1 | name 0 | name 1 | .. | name n-1 | 0 ..
//!   nameoff 0 = 12 * n ------------------->
//! ```
//! A name ends where the next one starts; the last one at the first NUL or at the block's end.
//! Names ascend as unsigned bytes through the whole directory, "." and ".." among them.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::FormatError;

/// Bytes of one entry.
pub const DIRENT_SIZE: usize = 12;
/// The longest name (kernel: `EROFS_NAME_LEN`).
pub const NAME_LEN: usize = 255;

/// `erofs_dirent`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Dirent {
    /// The inode.
    pub nid: U64,
    /// Where the name starts in this block.
    pub nameoff: U16,
    /// [`FileType`], or 0 if not known.
    pub file_type: u8,
    /// Must be 0.
    pub reserved: u8,
}

/// The type of a file (kernel: `FT_*`, and `S_IFMT` in a mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A named pipe.
    Fifo = 5,
    /// A socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

/// The bits of a mode that hold the type.
pub const S_IFMT: u16 = 0o170_000;

impl FileType {
    /// The type bits of a mode.
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// The type that a mode names.
    pub const fn from_mode(mode: u16) -> Result<Self, FormatError> {
        Ok(match mode & S_IFMT {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o120_000 => Self::Symlink,
            _ => return Err(FormatError::UnknownModeType { found: mode }),
        })
    }
}

impl TryFrom<u8> for FileType {
    type Error = FormatError;

    fn try_from(found: u8) -> Result<Self, FormatError> {
        Ok(match found {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return Err(FormatError::UnknownFileType { found }),
        })
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<Dirent>(), DIRENT_SIZE);
        assert_eq!(offset_of!(Dirent, nameoff), 8);
        assert_eq!(offset_of!(Dirent, file_type), 10);
    }

    #[test]
    fn types_of_entries_and_modes_agree() {
        for number in 1..=7 {
            let file_type = FileType::try_from(number).unwrap();
            assert_eq!(file_type as u8, number);
            assert_eq!(FileType::from_mode(file_type.mode_bits() | 0o7777), Ok(file_type));
        }
        assert!(FileType::try_from(0).is_err());
        assert!(FileType::try_from(8).is_err());
        assert_eq!(FileType::from_mode(0o644), Err(FormatError::UnknownModeType { found: 0o644 }));
    }
}
