//! What a finished build says about its image.

use crate::kernel::{Feature, KernelVersion};
use crate::source::Skipped;

/// Facts about an image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Inodes in the image; hard links count once.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Regular files among them.
    pub files: u64,
    /// Names that are further links to an inode already counted.
    pub hard_links: u64,
    /// Length of the image in bytes.
    pub bytes: u64,
    /// Bytes of it that hold superblock, inodes, xattrs, directories and inline tails.
    pub metadata_bytes: u64,
    /// Bytes of file contents read, holes left out.
    pub content_bytes: u64,
    /// Bytes of files that were not stored because their equals were.
    pub shared_bytes: u64,
    /// Bytes of clusters that were taken from the base.
    pub taken_bytes: u64,
    /// Why nothing could be taken from the base that was given.
    pub base_unused: Option<String>,
    /// Paths of the given order that name nothing.
    pub unknown_paths: u64,
    /// Bytes of the image that hold them, in blocks of their own.
    pub stored_bytes: u64,
    /// Files that carry a fingerprint.
    pub fingerprints: u64,
    /// Entries that an exclude pattern left out (what lies below an excluded directory is not counted).
    pub excluded: u64,
    /// What [`crate::BuildOptions::keep_going`] left out, sorted by path.
    pub skipped: Vec<Skipped>,
    /// Xattrs of the source that the policy or the format left out.
    pub xattrs_left_out: u64,
    /// The image's UUID.
    pub uuid: [u8; 16],
    /// The build time in seconds since 1970.
    pub build_time: i64,
    /// The kernel that the image was made for.
    pub target_kernel: KernelVersion,
    /// Oldest Linux that mounts the image.
    pub oldest_kernel: KernelVersion,
    /// The features that `oldest_kernel` is due to, each with the first Linux that has it.
    pub features: Vec<Feature>,
}
