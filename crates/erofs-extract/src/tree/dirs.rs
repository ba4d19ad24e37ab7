//! Directories that are being filled.
//!
//! A directory is made with mode 0700 and gets its owner, mode, attributes and times when all that is in it is
//! done, so that it can be filled whatever its mode says. Everything is made relative to its descriptor, and
//! no name is ever followed if it is a symbolic link, so that nothing that an image holds, or that lies in the
//! destination already, leads outside.
//!
//! Descriptors are few and directories may be many, so those opened longest ago are closed and, if need be,
//! opened once more from above, each name checked to be the same directory as before.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::Tree;
use super::attributes::{Fresh, Place};
use crate::context::lock;
use crate::error::{Error, Result};
use crate::select::Step;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory in the destination. Whoever is done with one hands it to [`Tree::release`].
#[derive(Debug)]
pub(super) struct Dir {
    parent: Option<Arc<Dir>>,
    step: Step,
    /// Device and inode number.
    id: (u64, u64),
    /// What is made in it belongs to the caller, as far as the directory itself shows.
    pub(super) is_callers: bool,
    fd: Mutex<Option<Arc<OwnedFd>>>,
}

/// The directories whose descriptors are open, in the order of opening.
#[derive(Debug)]
pub(super) struct OpenDirs {
    queue: Mutex<VecDeque<Weak<Dir>>>,
    limit: usize,
}

impl OpenDirs {
    pub(super) fn new() -> Self {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(1024);
        let limit = usize::try_from(allowed / 8).unwrap_or(256).clamp(4, 256);
        Self { queue: Mutex::default(), limit }
    }
}

impl Dir {
    /// The directory that everything goes to. Its descriptor stays open.
    pub(super) fn top(tree: &Tree<'_>, fd: OwnedFd, step: Step) -> Result<Self> {
        let stat = fstat(&fd).map_err(Error::target(&tree.target, "stat"))?;
        let is_callers = tree.is_callers(&stat);
        Ok(Self { parent: None, step, id: id_of(&stat), is_callers, fd: Mutex::new(Some(Arc::new(fd))) })
    }

    /// Makes the directory of `step` in `parent`, or with `force` takes the one that is there.
    pub(super) fn make(tree: &Tree<'_>, parent: &Arc<Self>, step: Step) -> Result<Self> {
        let above = parent.fd(tree)?;
        let name = step.name();
        let path = || tree.path(&step.path);
        let mode = Mode::RWXU;
        match mkdirat(&above, name, mode) {
            Err(Errno::EXIST) if tree.force() => {
                let stat = statat(&above, name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(Error::target(path(), "stat"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    unlinkat(&above, name, AtFlags::empty()).map_err(Error::target(path(), "remove"))?;
                    mkdirat(&above, name, mode).map_err(Error::target(path(), "create the directory"))?;
                }
            }
            Err(Errno::EXIST) => return Err(Error::Exists { path: path() }),
            made => made.map_err(Error::target(path(), "create the directory"))?,
        }
        let fd = openat(&above, name, OPEN_DIR, Mode::empty()).map_err(Error::target(path(), "open"))?;
        let stat = fstat(&fd).map_err(Error::target(path(), "stat"))?;
        let is_callers = tree.is_callers(&stat);
        let parent = Some(Arc::clone(parent));
        Ok(Self { parent, step, id: id_of(&stat), is_callers, fd: Mutex::new(Some(Arc::new(fd))) })
    }

    pub(super) fn is_below_top(&self) -> bool {
        self.parent.is_some()
    }

    /// The descriptor, opened again if it was closed.
    pub(super) fn fd(self: &Arc<Self>, tree: &Tree<'_>) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = &*lock(&self.fd) {
            return Ok(Arc::clone(fd));
        }
        let fd = self.open_again(tree)?;
        *lock(&self.fd) = Some(Arc::clone(&fd));
        tree.opened(self);
        Ok(fd)
    }

    fn open_again(&self, tree: &Tree<'_>) -> Result<Arc<OwnedFd>> {
        // From the nearest one above that is open; the topmost always is. No recursion: depth is the image's.
        let mut closed = vec![self];
        let mut above = None;
        while let (None, Some(parent)) = (&above, closed.last().and_then(|dir| dir.parent.as_deref())) {
            above.clone_from(&lock(&parent.fd));
            if above.is_none() {
                closed.push(parent);
            }
        }
        let mut fd = above.ok_or(Errno::BADF).map_err(Error::target(&tree.target, "open"))?;
        while let Some(dir) = closed.pop() {
            let path = || tree.path(&dir.step.path);
            let opened = openat(&fd, dir.step.name(), OPEN_DIR, Mode::empty());
            let opened = opened.map_err(Error::target(path(), "open"))?;
            let stat = fstat(&opened).map_err(Error::target(path(), "stat"))?;
            if id_of(&stat) != dir.id {
                return Err(Error::Replaced { path: path() });
            }
            fd = Arc::new(opened);
        }
        Ok(fd)
    }

    /// Gives the directory what the image says of it.
    fn complete(&self, tree: &Tree<'_>) -> Result<()> {
        let known = lock(&self.fd).take();
        let fd = known.map_or_else(|| self.open_again(tree), Ok)?;
        let xattrs = tree.xattrs(&self.step)?;
        tree.set_attributes(Place::Open(fd.as_fd()), &self.step, &xattrs, Fresh::other(self.is_callers))
    }
}

fn id_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Tree<'_> {
    /// The path of an entry in the destination, for messages.
    pub(super) fn path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            self.target.clone()
        } else {
            self.target.join(Path::new(OsStr::from_bytes(path)))
        }
    }

    /// Takes note that a directory is open, and closes the one that was opened longest ago.
    pub(super) fn opened(&self, dir: &Arc<Dir>) {
        let oldest = {
            let mut queue = lock(&self.open_dirs.queue);
            queue.push_back(Arc::downgrade(dir));
            if queue.len() > self.open_dirs.limit { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            *lock(&oldest.fd) = None;
            self.release(oldest);
        }
    }

    pub(super) fn release_all(&self, dirs: Vec<Arc<Dir>>) {
        for dir in dirs {
            self.release(dir);
        }
    }

    /// Lets a directory go. Who is last completes it, and then perhaps the one above.
    pub(super) fn release(&self, dir: Arc<Dir>) {
        let mut released = Some(dir);
        while let Some(dir) = released.take().and_then(Arc::into_inner) {
            if !self.context.stopped() {
                match dir.complete(self) {
                    Ok(()) => {
                        self.context.count(dir.step.inode.file_type());
                        self.context.advance(1, 0);
                    }
                    Err(error) => self.context.fail(error),
                }
            }
            released = dir.parent;
        }
    }
}
