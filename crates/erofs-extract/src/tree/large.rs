//! Large files, which several threads write at once.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use erofs_image::{Scratch, Xattr};
use rustix::fs::ftruncate;

use super::dirs::Dir;
use super::entry::{NewFile, or_remove};
use super::{Job, Planned, Tree};
use crate::cuts::Cuts;
use crate::error::{Error, Result};

/// A file that is being written in parts. Who is last to let it go completes it.
pub(super) struct Large {
    dir: Arc<Dir>,
    planned: Planned,
    xattrs: Vec<Xattr>,
    new: NewFile,
    /// A part could not be read or written.
    bad: AtomicBool,
}

impl Tree<'_> {
    /// Makes a large file and hands out its parts.
    pub(super) fn cut_up(&self, planned: Planned, dir: &Arc<Dir>, give: &mut dyn FnMut(Job)) {
        let (nid, is_first) = (planned.step.inode.nid, planned.is_first);
        let large = match self.begin(planned, dir) {
            Ok(large) => Arc::new(large),
            Err(error) => {
                self.context.fail(error);
                if is_first {
                    self.settle(nid, false);
                }
                return;
            }
        };
        let step = &large.planned.step;
        for cut in Cuts::new(self.context.image, &step.inode, 0..step.inode.size) {
            if self.context.stopped() || large.bad.load(Ordering::Relaxed) {
                break;
            }
            match cut {
                Ok(cut) if cut.is_hole => {}
                Ok(cut) => give(Job::Part(Arc::clone(&large), cut.range)),
                Err(error) => self.spoil(&large, Error::image(&step.path)(error)),
            }
        }
        self.end_part(large);
    }

    fn begin(&self, planned: Planned, dir: &Arc<Dir>) -> Result<Large> {
        let step = &planned.step;
        let xattrs = self.xattrs(step)?;
        let fd = dir.fd(self)?;
        let new = self.create_file(&fd, dir, step, &xattrs)?;
        let resized = ftruncate(&new.file, step.inode.size);
        let resized = resized.map_err(Error::target(self.path(&step.path), "write"));
        or_remove(&fd, step, resized)?;
        Ok(Large { dir: Arc::clone(dir), planned, xattrs, new, bad: AtomicBool::new(false) })
    }

    pub(super) fn write_part(&self, large: Arc<Large>, range: Range<u64>, scratch: &mut Scratch) {
        if !self.context.stopped() && !large.bad.load(Ordering::Relaxed) {
            let step = &large.planned.step;
            let written = self.write_range(step, range, scratch, &mut |at, bytes| {
                let written = large.new.file.write_all_at(bytes, at);
                written.map_err(Error::target(self.path(&step.path), "write"))
            });
            if let Err(error) = written {
                self.spoil(&large, error);
            }
        }
        self.end_part(large);
    }

    /// One error is enough for a file.
    fn spoil(&self, large: &Large, error: Error) {
        if !large.bad.swap(true, Ordering::Relaxed) {
            self.context.fail(error);
        }
    }

    fn end_part(&self, large: Arc<Large>) {
        let Some(Large { dir, planned, xattrs, new, bad }) = Arc::into_inner(large) else { return };
        let step = &planned.step;
        let is_good = !bad.into_inner() && !self.context.stopped();
        let completed = dir.fd(self).and_then(|fd| {
            let completed = if is_good {
                self.complete_file(&new, dir.is_callers, step, &xattrs)
            } else {
                // What went wrong was told when it did.
                Err(Error::Cancelled)
            };
            or_remove(&fd, step, completed)
        });
        let made = match completed {
            Ok(()) => {
                self.context.count(step.inode.file_type());
                self.context.advance(1, 0);
                true
            }
            Err(error) => {
                if is_good {
                    self.context.fail(error);
                }
                false
            }
        };
        if planned.is_first {
            self.settle(step.inode.nid, made);
        }
        self.release(dir);
    }
}
