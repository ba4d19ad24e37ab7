//! A domain's directory: making it, opening it, locking it.

use crate::Facts;
use crate::GcOptions;
use crate::GcReport;
use crate::ImageKey;
use crate::Objects;
use crate::Result;
use crate::StatReport;
use crate::VerifyReport;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// An open domain. Cheap to clone; every clone is the same directory, wherever it is moved.
#[derive(Clone, Debug)]
pub struct Domain {}

/// A lock on a domain, given back when dropped.
///
/// It belongs to the open file, so a process that inherits the descriptor keeps it held.
#[derive(Debug)]
pub struct DomainLock {}

impl DomainLock {
    /// The descriptor that holds the lock, to be handed to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
}

impl Domain {
    /// The state root that is used when nobody names one: `$PYEROFS_STATE`, else
    /// `/var/lib/pyerofs` for root, else `$XDG_CACHE_HOME/pyerofs` or `$HOME/.cache/pyerofs`.
    pub fn default_state_root() -> Result<std::path::PathBuf> {
        todo!()
    }

    /// Makes the state root (mode 0700) and what lies in it (`domains/`, `CACHEDIR.TAG`) where
    /// missing, checks owner and mode, and returns the path of `domains/`.
    pub fn prepare_state_root(root: &Path) -> Result<std::path::PathBuf> {
        let _ = root;
        todo!()
    }

    /// Makes a new domain at `path`, whose parent exists, and tests what the store needs of the
    /// filesystem. Fails if there is anything at the path.
    pub fn create(path: &Path) -> Result<Self> {
        let _ = path;
        todo!()
    }

    /// Opens the domain at `path`; owner and mode are checked.
    pub fn open(path: &Path) -> Result<Self> {
        let _ = path;
        todo!()
    }

    /// Opens the domain, or makes it; `true` if it was made.
    pub fn open_or_create(path: &Path) -> Result<(Self, bool)> {
        let _ = path;
        todo!()
    }

    /// Takes over a descriptor of a domain's directory.
    pub fn from_fd(directory: OwnedFd) -> Result<Self> {
        let _ = directory;
        todo!()
    }

    /// The directory itself, to be handed to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// 32 hexadecimal digits: the `domain_id` for the kernel.
    pub fn secret(&self) -> Result<String> {
        todo!()
    }

    /// Locks the domain for a mount; any number may. [`Error::Busy`](crate::Error::Busy) while somebody repairs it.
    pub fn lock_shared(&self) -> Result<DomainLock> {
        todo!()
    }

    /// Locks the domain against every mount. [`Error::Busy`](crate::Error::Busy) if there is one.
    pub fn lock_exclusive(&self) -> Result<DomainLock> {
        todo!()
    }

    /// `objects/`, opened as a directory: a data-only layer for an overlay.
    pub fn objects_dir(&self) -> Result<OwnedFd> {
        todo!()
    }

    /// `fresh/BOOT_ID/`, made if missing and opened as a directory: the last data-only layer.
    pub fn fresh_dir(&self) -> Result<OwnedFd> {
        todo!()
    }

    /// The objects, for reading.
    pub fn objects(&self) -> Objects {
        todo!()
    }

    /// What is known about an image; empty for one that was never seen.
    pub fn facts(&self, image: &ImageKey) -> Result<Facts> {
        let _ = image;
        todo!()
    }

    /// The size limit in bytes on disk that was set, or `None` for a tenth of what is free.
    pub fn limit(&self) -> Result<Option<u64>> {
        todo!()
    }

    /// Sets the size limit, or goes back to the default.
    pub fn set_limit(&self, bytes: Option<u64>) -> Result<()> {
        let _ = bytes;
        todo!()
    }

    /// Counts. `mounted` lists the image of every mount (twice mounted: listed twice).
    pub fn stat(&self, mounted: &[ImageKey]) -> Result<StatReport> {
        let _ = mounted;
        todo!()
    }

    /// Removes what nobody can use, under the exclusive lock.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        let _ = options;
        todo!()
    }

    /// Hashes every object and checks every fact. With `repair` (needs the exclusive lock) what is
    /// bad is put aside in `quarantine/`.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport> {
        let _ = repair;
        todo!()
    }

    /// Deletes the domain at `path`, under the exclusive lock. It is renamed first, so that nobody
    /// sees half of it.
    pub fn remove(path: &Path) -> Result<()> {
        let _ = path;
        todo!()
    }
}
