//! On-disk structures of EROFS: bytes to values and back, no I/O.
//!
//! Every structure that Linux 7.2 reads is here under the kernel's own names, also those that
//! nothing in this workspace uses yet, so that the crate is the whole format in one place. All
//! integers are little-endian. A structure is a `zerocopy` type without padding that can be read
//! from any byte position; a number that must be one of few values becomes an enum only by
//! `TryFrom`, which refuses the others and says which value it met. Nothing here allocates.
//!
//! ```text
//! 0        1024                         meta_blkaddr                xattr_blkaddr
//! | unused | superblock | ext | configs | inodes (32-byte slots) .. | shared xattrs .. | data ..
//!                                         nid 0, 1, 2 ..
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod chunk;
pub mod compression;
pub mod device;
pub mod dirent;
mod error;
pub mod features;
pub mod inode;
pub mod record;
pub mod superblock;
pub mod xattr;
pub mod zmap;

pub use error::FormatError;
pub use features::{FeatureCompat, FeatureIncompat, KernelVersion, Profile};

/// The block address that says "no block" in a 32-bit address field.
pub const NULL_ADDR: u32 = u32::MAX;

/// The block address that says "no block" in a 48-bit address field.
pub const NULL_ADDR_48: u64 = (1 << 48) - 1;
