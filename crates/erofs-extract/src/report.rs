//! What an extraction tells: while it runs, and at its end.

use crate::error::Error;

/// Receives the progress of an extraction and the files that failed. Called from several threads, at most once
/// for each batch of files, large piece or failure.
pub trait Observer: Sync {
    /// So many more entries and bytes of content are done.
    fn advance(&self, entries: u64, bytes: u64);

    /// Something could not be extracted; the extraction goes on.
    fn failed(&self, error: Error);
}

/// An observer that looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn advance(&self, _entries: u64, _bytes: u64) {}

    fn failed(&self, _error: Error) {}
}

/// What a finished extraction says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Directories extracted.
    pub directories: u64,
    /// Regular files extracted, further names not counted.
    pub files: u64,
    /// Symbolic links extracted.
    pub symlinks: u64,
    /// Devices, pipes and sockets extracted.
    pub special: u64,
    /// Further names of entries counted already.
    pub hard_links: u64,
    /// Bytes of file contents; holes count as bytes where the destination has no holes.
    pub bytes: u64,
    /// Entries that a pattern left out (what lies below an excluded directory is not counted).
    pub left_out: u64,
    /// Entries that could not be extracted, each of which was handed to [`Observer::failed`].
    pub failed: u64,
    /// What could not be kept of entries that were extracted, by kind.
    pub losses: Vec<Loss>,
}

/// Something about entries that was not kept, since the caller may not set it or the destination cannot hold
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What: "owners", "devices", "trusted.* attributes", ...
    pub what: String,
    /// Why it was not kept.
    pub reason: &'static str,
    /// How many entries have lost it.
    pub count: u64,
    /// The path in the image of one of them: the first in order of bytes.
    pub example: Vec<u8>,
}
