//! Reads one file, exactly as it was when the tree was read.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rustix::fs::{OFlags, fstat};
use rustix::io::{Errno, pread};
use sha2::{Digest, Sha256};

use super::Work;
use super::content::Content;
use super::dirs::Dirs;
use crate::error::{Error, Result};
use crate::plan::{Place, stored_chunks};
use crate::scan::{open_unseen, stamp};
use crate::tree::{NodeId, Regular};
use erofs_format::inode::DataLayout;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file on its way into the image.
pub(super) struct Reading<'a> {
    pub(super) work: &'a Work<'a>,
    /// Its path for messages.
    pub(super) path: &'a dyn Fn() -> PathBuf,
    /// The digest so far, if anybody wants it.
    pub(super) hash: Option<Sha256>,
}

impl Reading<'_> {
    /// Copies the blocks of the file to `content`; returns its tail.
    pub(super) fn copy(
        &mut self,
        id: NodeId,
        file: &Regular,
        place: &Place,
        dirs: &mut Dirs<'_>,
        content: &mut Content<'_>,
    ) -> Result<Vec<u8>> {
        let tree = self.work.job.tree;
        let entry = tree.first_entry(id);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = dirs.get(tree, entry.dir).and_then(|dir| open_unseen(dir, &entry.name, flags)).map_err(
            |error| match error {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                    self.changed("vanished or became something else")
                }
                error => Error::io(&(self.path)(), "open")(error),
            },
        )?;
        let block_size = u64::from(self.work.job.options.block_size);
        let mut tail = Vec::new();
        if place.layout == DataLayout::ChunkBased {
            let mut at = 0;
            for (first, end, _) in stored_chunks(file, block_size, place.chunk_bits) {
                let chunk = block_size << place.chunk_bits;
                let (start, end) = (first * chunk, end.saturating_mul(chunk).min(file.size));
                self.hole(start - at)?;
                self.read(fd.as_fd(), start, end, content)?;
                content.pad();
                at = end;
            }
            self.hole(file.size - at)?;
        } else {
            let blocks = file.size - u64::from(place.tail);
            self.read(fd.as_fd(), 0, blocks, content)?;
            content.pad();
            tail.resize(place.tail as usize, 0);
            let mut done = 0;
            while done < tail.len() {
                done += self.read_some(fd.as_fd(), &mut tail[done..], blocks + done as u64)?;
            }
            content.count(done);
            if let Some(hash) = &mut self.hash {
                hash.update(&tail);
            }
        }
        let stat = fstat(&fd).map_err(|error| Error::io(&(self.path)(), "stat")(error))?;
        if u64::try_from(stat.st_size) != Ok(file.size) {
            return Err(self.changed("changed its size"));
        }
        if stamp(&stat) != file.stamp {
            return Err(self.changed("was changed or replaced"));
        }
        Ok(tail)
    }

    /// Copies the bytes from `at` to before `end`.
    fn read(&mut self, fd: BorrowedFd<'_>, mut at: u64, end: u64, content: &mut Content<'_>) -> Result<()> {
        while at < end {
            let room = content.room(end - at);
            let length = self.read_some(fd, room, at)?;
            if let Some(hash) = &mut self.hash {
                hash.update(&room[..length]);
            }
            content.filled(length);
            content.count(length);
            if let Some(bytes) = content.counted(false) {
                self.work.job.progress.advance(0, bytes);
            }
            at += length as u64;
            self.work.check()?;
        }
        Ok(())
    }

    fn read_some(&self, fd: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize> {
        loop {
            match pread(fd, &mut *buffer, at) {
                Ok(0) => return Err(self.changed("became shorter")),
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(&(self.path)(), "read")(error)),
            }
        }
    }

    /// Hashes a hole; it is part of what the file says.
    fn hole(&mut self, mut length: u64) -> Result<()> {
        while length > 0 && self.hash.is_some() {
            self.work.check()?;
            let now = length.min(ZEROS.len() as u64);
            if let Some(hash) = &mut self.hash {
                hash.update(ZEROS.get(..usize::try_from(now).unwrap_or(0)).unwrap_or_default());
            }
            length -= now;
        }
        Ok(())
    }

    fn changed(&self, what: &'static str) -> Error {
        Error::Changed { path: (self.path)(), what }
    }
}
