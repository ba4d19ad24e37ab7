//! A file that is open for reading.

use std::sync::Arc;

use crate::error::Result;
use crate::image::Image;
use crate::inode::Inode;

/// An open regular file: reads at any position from any thread. Who reads a compressed file from
/// front to back in small steps is read ahead for, by several threads.
#[derive(Debug)]
pub struct Reader {
    image: Arc<Image>,
    inode: Inode,
    threads: usize,
}

impl Reader {
    /// Opens `inode` of `image`. `threads` is how many may decode for one read; 1: none but the
    /// caller's.
    pub fn new(image: Arc<Image>, inode: Inode, threads: usize) -> Self {
        Self { image, inode, threads }
    }

    /// The image.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The file.
    pub fn inode(&self) -> &Inode {
        &self.inode
    }

    /// Reads from byte `offset` on and says how much. Less than `buf` holds only at the file's end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.image.read_parallel(&self.inode, offset, buf, self.threads)
    }
}
