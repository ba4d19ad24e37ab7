//! The directory that an image is made of.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Error, Result};

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
