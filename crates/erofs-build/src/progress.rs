//! What a build tells about itself while it runs.

/// A step of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Names, attributes and xattrs are read; totals are not known yet.
    Scan,
    /// The layout is computed.
    Plan,
    /// File contents are read, hashed and written.
    Pack,
    /// The image is made durable and given its name.
    Finish,
}

/// Receives the progress of a build. Called from several threads, at most once per batch of files or
/// mebibyte, so an implementation may take a lock but should not draw on every call.
pub trait Progress: Sync {
    /// A phase begins; `files` and `bytes` are its totals, 0 where they are not known.
    fn phase(&self, phase: Phase, files: u64, bytes: u64);

    /// So many more files and bytes of the present phase are done.
    fn advance(&self, files: u64, bytes: u64);

    /// So many bytes of contents have got their place in the image: what they take there, compressed or not.
    fn stored(&self, bytes: u64);

    /// The image file is complete and durable, and is given its name next, unless the answer is no, which ends the
    /// build as being cancelled does. Whoever may stop a build decides here for the last time.
    fn may_appear(&self) -> bool {
        true
    }
}

/// Progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _phase: Phase, _files: u64, _bytes: u64) {}

    fn advance(&self, _files: u64, _bytes: u64) {}

    fn stored(&self, _bytes: u64) {}
}
