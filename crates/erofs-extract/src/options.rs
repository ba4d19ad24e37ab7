//! What the caller may choose.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// More threads than this only wait for each other.
const MAX_THREADS: usize = 64;
/// Without being told, no more than this: each may have to hold an extent of 12 MiB and what it is made of, and
/// all together are to stay below 150 MB.
const UNTOLD_THREADS: usize = 8;

/// What is extracted, and how. `Default` is everything.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Paths in the image: only they and what is below them, with the directories that lead there. Empty is
    /// everything.
    pub paths: Vec<Vec<u8>>,
    /// Patterns in gitignore syntax, rooted at the image: only what matches, and what is below a directory
    /// that does. Empty is everything.
    pub includes: Vec<String>,
    /// Patterns in gitignore syntax, rooted at the image, of what is left out; later ones win.
    pub excludes: Vec<String>,
    /// Whose the files become. Of no meaning to a tar stream, which always says what the image says.
    pub owners: Owners,
    /// Set extended attributes.
    pub xattrs: bool,
    /// Write into a directory that is not empty, and replace files there.
    pub force: bool,
    /// Threads that read and decode; without a number, one per CPU that this process may use, up to 8.
    pub threads: Option<NonZeroUsize>,
    /// Set it from anywhere and the extraction ends soon with [`crate::Error::Cancelled`].
    pub cancel: Arc<AtomicBool>,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            includes: Vec::new(),
            excludes: Vec::new(),
            owners: Owners::default(),
            xattrs: true,
            force: false,
            threads: None,
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl ExtractOptions {
    pub(crate) fn thread_count(&self) -> usize {
        let untold = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(UNTOLD_THREADS);
        self.threads.map_or_else(untold, |told| told.get().min(MAX_THREADS))
    }
}

/// Whose extracted files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// The image's, if this is root; an ordinary user, who could not give files away, keeps them, and is told.
    #[default]
    Auto,
    /// The image's, tried by anybody.
    Image,
    /// The caller's.
    Caller,
}
