//! The piece of an inode's index that was read last.

use super::Context;
use crate::cache::Bytes;
use crate::device::overflow;
use crate::error::Result;

/// Bytes fetched at once. They start at a multiple of this, so that the way back to a head stays
/// inside as often as the way on.
const SIZE: u64 = 4096;

#[derive(Debug)]
pub(super) struct Window<'a> {
    context: Context<'a>,
    /// The index: nothing before and behind is fetched.
    start: u64,
    end: u64,
    bytes: Bytes<'a>,
    bytes_start: u64,
}

impl<'a> Window<'a> {
    /// An empty window on the bytes from `start` to `end` of the inode's space.
    pub(super) fn new(context: Context<'a>, start: u64, end: u64) -> Self {
        Self { context, start, end, bytes: Bytes::Owned(Vec::new()), bytes_start: 0 }
    }

    /// The `N` bytes at `position`.
    pub(super) fn get<const N: usize>(&mut self, position: u64) -> Result<[u8; N]> {
        if let Some(found) = self.held(position) {
            return Ok(found);
        }
        let needed = position.checked_add(N as u64).ok_or_else(|| overflow(self.context.nid))?;
        let page = position - position % SIZE;
        let start = page.max(self.start).min(position);
        let end = page.saturating_add(SIZE).min(self.end).max(needed);
        // Where an index claims more than the image holds, what there is of it still counts.
        self.fetch(start, end).or_else(|_| self.fetch(position, needed))?;
        Ok(self.held(position).unwrap_or([0; N]))
    }

    fn held<const N: usize>(&self, position: u64) -> Option<[u8; N]> {
        let start = usize::try_from(position.checked_sub(self.bytes_start)?).ok()?;
        self.bytes.get(start..)?.first_chunk().copied()
    }

    fn fetch(&mut self, start: u64, end: u64) -> Result<()> {
        let len = usize::try_from(end - start).unwrap_or_default();
        self.bytes = self.context.image.bytes(self.context.space, start, len)?;
        self.bytes_start = start;
        Ok(())
    }
}
