//! Bytes of files, answered from the image.

use std::cell::RefCell;

use erofs_image::{Inode, Place};
use fuse_dev::{Reply, Request};
use rustix::io::Errno;

use crate::tree::Tree;

/// The longest answer to one READ: what the kernel asks for at most (`max_pages_limit`).
const MAX_READ: u32 = 1 << 20;

/// The most runs that are looked at for one `SEEK_DATA` or `SEEK_HOLE`.
const MAX_RUNS: usize = 64;

const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

thread_local! {
    /// What the next READ of this thread is read into.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Tree {
    /// Answers READ: one pread where the bytes lie together, less than asked for only at the end.
    pub(crate) fn read(&self, request: &Request, offset: u64, size: u32, reply: Reply) {
        match self.regular(request) {
            Ok(inode) => self.read_inode(&inode, offset, size, reply),
            Err(errno) => reply.error(errno),
        }
    }

    /// The same of an inode that is known.
    pub(crate) fn read_inode(&self, inode: &Inode, offset: u64, size: u32, reply: Reply) {
        let wanted = inode.size.saturating_sub(offset).min(u64::from(size.min(MAX_READ)));
        let Ok(wanted) = usize::try_from(wanted) else { return reply.error(Errno::OVERFLOW) };
        if let Some(bytes) = self.mapped(inode, offset, wanted) {
            return reply.data(bytes);
        }
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            let Some(room) = buffer.get_mut(..wanted) else { return reply.error(Errno::IO) };
            match self.told(self.image.read(inode, offset, room)) {
                // The size of a file is the image's claim; what is missing of it is corruption and not an end.
                Ok(read) if read < wanted => reply.error(Errno::UCLEAN),
                Ok(_) => reply.data(room),
                Err(errno) => reply.error(errno),
            }
        });
    }

    /// The bytes themselves, where they lie together in memory.
    fn mapped(&self, inode: &Inode, offset: u64, wanted: usize) -> Option<&[u8]> {
        // Asking for nothing tells whether this blob is in memory at all, before the run is looked up.
        self.image.blob(0)?.slice(0, 0)?;
        let extent = self.image.map(inode, offset).ok()?;
        let Place::Raw { blob, offset: start } = extent.place else { return None };
        let skip = offset.checked_sub(extent.logical)?;
        if u64::try_from(wanted).ok()? > extent.len.checked_sub(skip)? {
            return None;
        }
        self.image.blob(blob)?.slice(start.checked_add(skip)?, wanted)
    }

    /// Answers `SEEK_DATA` and `SEEK_HOLE`. Past [`MAX_RUNS`] it says what is always allowed: data from here, no hole before the end.
    pub(crate) fn lseek(&self, request: &Request, offset: u64, whence: u32, reply: Reply) {
        let found = self.regular(request).and_then(|inode| match whence {
            SEEK_DATA | SEEK_HOLE if offset < inode.size => self.seek(&inode, offset, whence == SEEK_HOLE),
            SEEK_DATA | SEEK_HOLE => Err(Errno::NXIO),
            _ => Err(Errno::INVAL),
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    fn seek(&self, inode: &Inode, offset: u64, hole: bool) -> Result<u64, Errno> {
        let mut at = offset;
        for _ in 0..MAX_RUNS {
            if at >= inode.size {
                return if hole { Ok(inode.size) } else { Err(Errno::NXIO) };
            }
            let extent = self.told(self.image.map(inode, at))?;
            if matches!(extent.place, Place::Hole) == hole {
                return Ok(at);
            }
            at = extent.logical.checked_add(extent.len).filter(|next| *next > at).ok_or(Errno::UCLEAN)?;
        }
        Ok(if hole { inode.size } else { offset })
    }

    fn regular(&self, request: &Request) -> Result<Inode, Errno> {
        self.inode(request.nodeid)
            .and_then(|inode| if inode.is_file() { Ok(inode) } else { Err(Errno::INVAL) })
    }
}
