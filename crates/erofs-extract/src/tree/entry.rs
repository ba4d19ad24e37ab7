//! Making the entries of a directory.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use erofs_format::inode::new_decode_dev;
use erofs_image::{FileType, Piece, Scratch, Xattr};
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, linkat, makedev, mknodat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::attributes::{Fresh, Place};
use super::dirs::Dir;
use super::{Planned, Tree};
use crate::error::{Error, Result};
use crate::select::Step;

const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Bytes of one file after which progress is told.
const STEP_OF_PROGRESS: u64 = 1 << 20;

/// A file that is being written.
pub(super) struct NewFile {
    pub(super) file: std::fs::File,
    /// Its mode is right already.
    pub(super) has_mode: bool,
}

impl Tree<'_> {
    /// Makes one entry and whatever has waited for it.
    pub(super) fn make(&self, fd: &OwnedFd, dir: &Arc<Dir>, planned: &Planned, scratch: &mut Scratch) {
        let step = &planned.step;
        let made = match self.make_entry(fd, dir, step, scratch) {
            Ok(true) => {
                self.context.count(step.inode.file_type());
                self.context.advance(1, 0);
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.context.fail(error);
                false
            }
        };
        if planned.is_first {
            self.settle(step.inode.nid, made);
        }
    }

    /// Makes the names that have waited for the first one of an inode.
    pub(super) fn settle(&self, nid: u64, made: bool) {
        let mut unused = Vec::new();
        if let Some((source, first, waiting)) = self.links.settle(nid, made, &mut unused) {
            for waiting in waiting {
                if !made {
                    self.lose_link(waiting.step, first.clone());
                } else if !self.context.stopped() {
                    self.link(&source, &first, &waiting.step, &waiting.place);
                }
                unused.push(waiting.place);
            }
            unused.push(source);
        }
        self.release_all(unused);
    }

    /// Makes a further name of what was made in `source`, where its path is `first`.
    pub(super) fn link(&self, source: &Arc<Dir>, first: &[u8], step: &Step, dir: &Arc<Dir>) {
        let linked = source.fd(self).and_then(|from| {
            let to = dir.fd(self)?;
            self.create(&to, step, "link", || {
                linkat(&from, name_of(first), &to, step.name(), AtFlags::empty())
            })
        });
        match linked {
            Ok(()) => {
                self.context.count_link();
                self.context.advance(1, 0);
            }
            Err(error) => self.context.fail(error),
        }
    }

    /// A further name of something that could not be made.
    pub(super) fn lose_link(&self, step: Step, first: Vec<u8>) {
        if is_device(&step) {
            self.lose_device(&step);
        } else if !self.context.stopped() {
            self.context.fail(Error::LinkLost { path: step.path, first });
        }
    }

    fn lose_device(&self, step: &Step) {
        self.context.lose("devices", "only root may make them", &step.path);
    }

    /// Whether it was made; a device may not be.
    fn make_entry(&self, fd: &OwnedFd, dir: &Dir, step: &Step, scratch: &mut Scratch) -> Result<bool> {
        // Everything is read before anything is made, so that what is broken leaves nothing behind.
        let xattrs = self.xattrs(step)?;
        let name = step.name();
        match step.inode.file_type() {
            FileType::Regular => {
                self.write_file(fd, dir, step, &xattrs, scratch)?;
                return Ok(true);
            }
            FileType::Symlink => {
                let target = self.context.image.read_link(&step.inode).map_err(Error::image(&step.path))?;
                self.create(fd, step, "create the symbolic link", || symlinkat(&*target, fd, name))?;
            }
            FileType::Directory => return Ok(false),
            FileType::Fifo | FileType::Socket => self.make_node(fd, step)?,
            FileType::CharDevice | FileType::BlockDevice => match self.make_node(fd, step) {
                Err(Error::Target { source, .. }) if Errno::from_io_error(&source) == Some(Errno::PERM) => {
                    self.lose_device(step);
                    return Ok(false);
                }
                made => made?,
            },
        }
        let made = self.find_made(fd, step)?;
        let set =
            self.set_attributes(Place::Found(made.as_fd()), step, &xattrs, Fresh::other(dir.is_callers));
        or_remove(fd, step, set)?;
        Ok(true)
    }

    fn make_node(&self, fd: &OwnedFd, step: &Step) -> Result<()> {
        let file_type = rustix::fs::FileType::from_raw_mode(u32::from(step.inode.mode));
        let (major, minor) = new_decode_dev(step.inode.rdev);
        let device = if is_device(step) { makedev(major, minor) } else { 0 };
        self.create(fd, step, "create", || {
            mknodat(fd, step.name(), file_type, Mode::RUSR | Mode::WUSR, device)
        })
    }

    /// Creates something that must not be there; with `force`, what is there is removed, but no directory.
    fn create<T>(
        &self,
        fd: &OwnedFd,
        step: &Step,
        action: &'static str,
        create: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        let path = || self.path(&step.path);
        match create() {
            Err(Errno::EXIST) if self.force() => {
                match unlinkat(fd, step.name(), AtFlags::empty()) {
                    Err(Errno::ISDIR) => return Err(Error::DirectoryInTheWay { path: path() }),
                    removed => removed.map_err(Error::target(path(), "remove"))?,
                }
                create().map_err(Error::target(path(), action))
            }
            Err(Errno::EXIST) => Err(Error::Exists { path: path() }),
            created => created.map_err(Error::target(path(), action)),
        }
    }

    pub(super) fn create_file(
        &self,
        fd: &OwnedFd,
        dir: &Dir,
        step: &Step,
        xattrs: &[Xattr],
    ) -> Result<NewFile> {
        let (mode, has_mode) = self.first_mode(step, xattrs, dir.is_callers);
        let file = self.create(fd, step, "create", || openat(fd, step.name(), CREATE, mode))?;
        Ok(NewFile { file: file.into(), has_mode })
    }

    pub(super) fn complete_file(
        &self,
        new: &NewFile,
        is_callers: bool,
        step: &Step,
        xattrs: &[Xattr],
    ) -> Result<()> {
        let fresh = Fresh { is_callers, has_mode: new.has_mode };
        self.set_attributes(Place::Open(new.file.as_fd()), step, xattrs, fresh)
    }

    fn write_file(
        &self,
        fd: &OwnedFd,
        dir: &Dir,
        step: &Step,
        xattrs: &[Xattr],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let mut new = None;
        let mut written_to = 0;
        let written = self.write_range(step, 0..step.inode.size, scratch, &mut |at, bytes| {
            let new = match &mut new {
                Some(new) => new,
                none => none.insert(self.create_file(fd, dir, step, xattrs)?),
            };
            written_to = at.saturating_add(bytes.len() as u64);
            new.file.write_all_at(bytes, at).map_err(Error::target(self.path(&step.path), "write"))
        });
        let completed = written.and_then(|()| {
            let new = match &new {
                Some(new) => new,
                None => &*new.insert(self.create_file(fd, dir, step, xattrs)?),
            };
            if written_to < step.inode.size {
                let resized = ftruncate(&new.file, step.inode.size);
                resized.map_err(Error::target(self.path(&step.path), "write"))?;
            }
            self.complete_file(new, dir.is_callers, step, xattrs)
        });
        if new.is_some() { or_remove(fd, step, completed) } else { completed }
    }

    /// Hands the data of a range of a file to `write`, holes left out.
    pub(super) fn write_range(
        &self,
        step: &Step,
        range: std::ops::Range<u64>,
        scratch: &mut Scratch,
        write: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut unsaid = 0;
        let mut failed = None;
        let visited = self.context.image.for_each_piece(&step.inode, range, scratch, &mut |at, piece| {
            let Piece::Data(bytes) = piece else { return ControlFlow::Continue(()) };
            let written = if self.context.stopped() { Err(Error::Cancelled) } else { write(at, bytes) };
            if let Err(error) = written {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            unsaid += bytes.len() as u64;
            if unsaid >= STEP_OF_PROGRESS {
                self.context.advance(0, std::mem::take(&mut unsaid));
            }
            ControlFlow::Continue(())
        });
        if unsaid > 0 {
            self.context.advance(0, unsaid);
        }
        match failed {
            Some(error) => Err(error),
            None => visited.map_err(Error::image(&step.path)),
        }
    }
}

/// Removes what was made if it could not be completed.
pub(super) fn or_remove<T>(fd: &OwnedFd, step: &Step, made: Result<T>) -> Result<T> {
    if made.is_err() {
        // There is an error to tell already.
        let _ = unlinkat(fd, step.name(), AtFlags::empty());
    }
    made
}

fn is_device(step: &Step) -> bool {
    matches!(step.inode.file_type(), FileType::CharDevice | FileType::BlockDevice)
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
