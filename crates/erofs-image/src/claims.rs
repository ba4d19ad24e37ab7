//! What a file claims to be, looked at before anything is taken or made in proportion to it.
//!
//! A size is a number in an inode, and so is the length of a hole. Whoever takes memory for a whole
//! file, or writes zeros where a file has no data, asks here first. The map is walked and no data is read.

use std::ops::Range;

use crate::data::{Extents, Place};
use crate::error::{Corruption, Error, Result, Where};
use crate::image::Image;
use crate::inode::Inode;

/// Up to so many bytes nobody asks what is behind a claim.
const SMALL: u64 = 16 << 20;

/// Bytes of a blob.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: u64,
    end: u64,
    /// Where the run starts that ends last.
    last: u64,
}

/// What is behind a range of a file, if what the map says is true.
#[derive(Debug)]
struct Backing {
    /// Bytes of the range that are no holes.
    data: u64,
    /// Of each blob, from the first to the last byte that is used.
    spans: Vec<Option<Span>>,
}

impl Image {
    /// Whether `range` of a regular file may be taken into memory at once. It may not if some of
    /// it lies beyond the end of a blob, which is the error that reading it would be, or if it has
    /// more than [`crate::Limits::memory_bytes`] beyond what the blobs hold of it.
    pub fn check_memory(&self, inode: &Inode, range: Range<u64>) -> Result<()> {
        let range = range.start..range.end.min(inode.size);
        let bytes = range.end.saturating_sub(range.start);
        if bytes <= SMALL {
            return Ok(());
        }
        let mut backing = Backing::new(self);
        let walked = self.back(inode, range, &mut backing, true);
        walked.and_then(|()| backing.check(self, inode)).map_err(|error| error.of_inode(inode.nid))?;
        let value = bytes.saturating_sub(backing.stored());
        within(inode, "memory_bytes", value, self.limits().memory_bytes)
    }

    /// Whether `bytes` of a regular file may be written out, with zeros for some of its holes and
    /// for what can't be read: of these there may be [`crate::Limits::zero_bytes`].
    pub fn check_zeros(&self, inode: &Inode, bytes: u64) -> Result<()> {
        if bytes <= SMALL {
            return Ok(());
        }
        let mut backing = Backing::new(self);
        // Who reads is told what is wrong.
        let _ = self.back(inode, 0..inode.size, &mut backing, true);
        let data = backing.check(self, inode).map_or(0, |()| backing.data);
        let value = bytes.saturating_sub(data);
        within(inode, "zero_bytes", value, self.limits().zero_bytes)
    }

    /// Adds what is behind a range, as far as the map can be read.
    fn back(&self, inode: &Inode, range: Range<u64>, backing: &mut Backing, follow: bool) -> Result<()> {
        for extent in Extents::from(self, inode, range.start) {
            let extent = extent?;
            if extent.logical >= range.end {
                break;
            }
            let len = extent.len.min(range.end - extent.logical);
            match extent.place {
                Place::Hole => continue,
                Place::Raw { blob, offset } => backing.add(inode, blob, offset, len)?,
                Place::Encoded { blob, offset, len, .. } => backing.add(inode, blob, offset, len)?,
                // A tail in the metabox is small. A fragment may be of any size, and what it lies in
                // has none.
                Place::Inside { nid, offset, .. } if follow && self.superblock().packed_nid == Some(nid) => {
                    let packed = self.packed(inode.nid)?;
                    let end = offset.saturating_add(len);
                    if end > packed.size {
                        let what = Corruption::PastFileEnd { needed: len, size: packed.size };
                        return Err(Error::corrupt(Where::at(inode.nid, offset), what));
                    }
                    let before = backing.data;
                    self.back(&packed, offset..end, backing, false)?;
                    backing.data = before;
                }
                Place::Inside { .. } => (),
            }
            backing.data = backing.data.saturating_add(len);
        }
        Ok(())
    }
}

impl Backing {
    fn new(image: &Image) -> Self {
        Self { data: 0, spans: vec![None; image.blob_count()] }
    }

    /// Bytes from the first to the last one that is used, of all blobs.
    fn stored(&self) -> u64 {
        self.spans.iter().flatten().fold(0, |sum: u64, span| sum.saturating_add(span.end - span.first))
    }

    /// Adds `len` bytes of a blob to what is used of it.
    fn add(&mut self, inode: &Inode, blob: usize, offset: u64, len: u64) -> Result<()> {
        let corrupt = |what| Error::corrupt(Where::at(inode.nid, offset), what);
        let end = offset.checked_add(len).ok_or_else(|| corrupt(Corruption::AddressOverflow))?;
        let span = self.spans.get_mut(blob);
        let span = span.ok_or_else(|| corrupt(Corruption::PastEnd { blob, needed: len }))?;
        let Span { first, end: before, last } = span.unwrap_or(Span { first: offset, end, last: offset });
        let last = if end > before { offset } else { last };
        *span = Some(Span { first: first.min(offset), end: end.max(before), last });
        Ok(())
    }

    /// Whether the blobs go on as far as they are used. One byte of each is read, as a source may
    /// be far away.
    fn check(&self, image: &Image, inode: &Inode) -> Result<()> {
        for (blob, span) in self.spans.iter().enumerate() {
            let (Some(span), Some(source)) = (span, image.blob(blob)) else { continue };
            let Some(at) = span.end.checked_sub(1).filter(|at| *at >= span.first) else { continue };
            let read = source.read_at(at, &mut [0]);
            if read.map_err(|source| Error::Io { blob, offset: at, source })? == 0 {
                let what = Corruption::PastEnd { blob, needed: span.end - span.last };
                return Err(Error::corrupt(Where::at(inode.nid, span.last), what));
            }
        }
        Ok(())
    }
}

fn within(inode: &Inode, name: &'static str, value: u64, limit: u64) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::Limit { place: Where::nid(inode.nid), name, value, limit })
}
