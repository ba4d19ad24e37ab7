//! One directory on the way from the source down, and how it is opened again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, fstat, openat};

use crate::error::{Error, Result};

/// Deeper directories have no path that any system call would take.
const MAX_DEPTH: usize = 2048;

/// Descriptors that may be kept for directories whose children wait to be read; children of others open
/// their directory from the top again.
const MAX_KEPT: usize = 256;

/// A directory with its way from the root, which is what a child needs to be opened, to be named in a
/// message, and to find out that it is its own ancestor.
#[derive(Debug)]
pub(super) struct DirNode {
    pub(super) parent: Option<Arc<DirNode>>,
    pub(super) name: Box<[u8]>,
    pub(super) dev: u64,
    pub(super) ino: u64,
    depth: usize,
}

/// A descriptor that is counted while it lives.
#[derive(Debug)]
pub(super) struct KeptFd {
    fd: OwnedFd,
    kept: Arc<AtomicUsize>,
}

impl KeptFd {
    /// Keeps `fd` for others to use, unless enough are kept.
    pub(super) fn keep(fd: OwnedFd, kept: &Arc<AtomicUsize>) -> std::result::Result<Arc<Self>, OwnedFd> {
        if kept.fetch_add(1, Ordering::Relaxed) >= MAX_KEPT {
            kept.fetch_sub(1, Ordering::Relaxed);
            return Err(fd);
        }
        Ok(Arc::new(Self { fd, kept: Arc::clone(kept) }))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DirNode {
    pub(super) fn root(dev: u64, ino: u64) -> Arc<Self> {
        Arc::new(Self { parent: None, name: Box::default(), dev, ino, depth: 0 })
    }

    /// The directory `name` in `parent`; an error if it is its own ancestor.
    pub(super) fn child(
        parent: &Arc<Self>,
        name: &[u8],
        dev: u64,
        ino: u64,
        source: &Path,
    ) -> Result<Arc<Self>> {
        let depth = parent.depth + 1;
        let node = Arc::new(Self { parent: Some(Arc::clone(parent)), name: name.into(), dev, ino, depth });
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                path: node.path(source),
                what: "directory depth",
                found: depth as u64,
                limit: MAX_DEPTH as u64,
            });
        }
        let mut above = Some(parent);
        while let Some(ancestor) = above {
            if (ancestor.dev, ancestor.ino) == (dev, ino) {
                return Err(Error::Loop { path: node.path(source), ancestor: ancestor.path(source) });
            }
            above = ancestor.parent.as_ref();
        }
        Ok(node)
    }

    /// Its path below `base`.
    pub(super) fn path(&self, base: &Path) -> PathBuf {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::with_capacity(self.depth);
        let mut at = self;
        while let Some(parent) = &at.parent {
            names.push(&at.name);
            at = parent;
        }
        let mut path = base.to_owned();
        path.extend(names.iter().rev().map(|name| OsStr::from_bytes(name)));
        path
    }

    /// Opens the directory, from its parent's descriptor if that was kept.
    pub(super) fn open(&self, parent: Option<&KeptFd>, root: &OwnedFd, source: &Path) -> Result<OwnedFd> {
        let fail = |error: rustix::io::Errno| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => {
                Error::Changed { path: self.path(source), what: "vanished or became something else" }
            }
            error => Error::io(&self.path(source), "open")(error),
        };
        let fd = match (parent, &self.parent) {
            (Some(parent), _) => open_directory(parent.fd(), &self.name).map_err(fail)?,
            (None, None) => open_directory(root, b".").map_err(fail)?,
            (None, Some(_)) => {
                let mut names = Vec::new();
                let mut at = self;
                while let Some(parent) = &at.parent {
                    names.push(&at.name);
                    at = parent;
                }
                let mut fd = None;
                for name in names.iter().rev() {
                    fd = Some(open_directory(fd.as_ref().unwrap_or(root), name).map_err(fail)?);
                }
                fd.map_or_else(|| open_directory(root, b".").map_err(fail), Ok)?
            }
        };
        let stat = fstat(&fd).map_err(Error::io(&self.path(source), "stat"))?;
        if (stat.st_dev, stat.st_ino) != (self.dev, self.ino) {
            return Err(Error::Changed { path: self.path(source), what: "was replaced" });
        }
        Ok(fd)
    }
}

/// Opens a directory by one name, following no symlink, without touching its access time if allowed.
pub(crate) fn open_directory(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_unseen(dir, name, flags)
}

/// Opens with `O_NOATIME`, which only the owner may use, or else without.
pub(crate) fn open_unseen(dir: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(rustix::io::Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
        result => result,
    }
}
