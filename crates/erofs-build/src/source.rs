//! Where trees and the contents of their files come from.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Error, Result};
use crate::tree::{NodeId, Tree};

/// The contents of a tree's files.
pub(crate) trait Contents: Sync {
    /// A view of them for one thread.
    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a>;
}

/// Opens files; may keep open what it needs for the next ones. Files come in about the order of the tree.
pub(crate) trait ContentReader {
    /// Opens the regular file `id`, the one that the tree means and no other.
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>>;
}

/// A file that is open.
pub(crate) trait Content {
    /// Fills `buffer` with the bytes from `at` on; an error if the file ends before.
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()>;

    /// An error unless everything read so far is of the file as it was when the tree was read.
    fn check(&self) -> Result<()>;
}

/// A directory, held open: renaming it while the image is built changes nothing.
#[derive(Debug)]
pub struct DirSource {
    pub(crate) root: OwnedFd,
    pub(crate) path: PathBuf,
}

impl DirSource {
    /// Opens the directory `path`; a symlink there is followed, none below it ever is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(Error::io(path, "open"))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Takes a directory that is open already; `path` is for messages.
    pub fn from_fd(root: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { root, path: path.into() }
    }

    /// The path that messages name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
