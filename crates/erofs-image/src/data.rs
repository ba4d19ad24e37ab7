//! The data of inodes: which bytes lie where, and reading them.

use erofs_format::NULL_ADDR;
use erofs_format::chunk::{ChunkFormat, ChunkIndex};
use erofs_format::compression::Algorithm;
use erofs_format::inode::DataLayout;
use zerocopy::FromBytes;

use crate::cache::Bytes;
use crate::device::{self, overflow};
use crate::encoded::{Encoded, Work};
use crate::error::{Corruption, Error, Result, Where};
use crate::image::{Image, Space};
use crate::inode::{DataStart, Inode};
use crate::scratch::Tools;

/// A run of a file's bytes and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Byte position in the file.
    pub logical: u64,
    /// Bytes.
    pub len: u64,
    /// Where they lie.
    pub place: Place,
}

/// Where a run of bytes lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Nowhere: they are zeros.
    Hole,
    /// In a blob.
    Raw {
        /// The blob: 0 is the primary, see [`Image::blob`].
        blob: usize,
        /// Absolute byte position in its source.
        offset: u64,
    },
    /// In a blob, in a cluster whose bytes are not those of the file: [`Image::read`] decodes them.
    Encoded {
        /// The blob.
        blob: usize,
        /// Absolute byte position of the whole cluster in the blob's source.
        offset: u64,
        /// Bytes of the cluster.
        len: u64,
        /// How the bytes are compressed; `None`: not at all, only rotated within their block.
        algorithm: Option<Algorithm>,
    },
    /// In the data of another inode: a fragment in the packed inode, or a tail in the metabox.
    Inside {
        /// The other inode.
        nid: u64,
        /// Byte position in its data.
        offset: u64,
        /// Bytes that are compressed there once more, and how; `None`: the bytes are the file's.
        encoded: Option<(u64, Algorithm)>,
    },
}

/// Where a run lies, counted from block 0 of its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    Hole,
    Blob {
        index: usize,
        position: u64,
    },
    /// In the data of a compressed metabox.
    Metabox {
        position: u64,
    },
}

/// How long a run is, and where it lies. The run starts where it was asked for.
#[derive(Clone, Copy, Debug)]
struct Run {
    len: u64,
    spot: Spot,
    /// It is a tail beside its inode: small, and likely in the cache with it.
    is_tail: bool,
}

impl Image {
    /// The run of `inode`'s data from `offset` to the run's end. Neighbouring chunks that run on
    /// are one run, up to [`crate::Limits::extents`] of them. At or beyond the file's end it is an
    /// empty hole.
    pub fn map(&self, inode: &Inode, offset: u64) -> Result<Extent> {
        if inode.data == DataStart::Compressed && offset < inode.size {
            let found = Encoded::new(self, inode).and_then(|mut encoded| encoded.place(offset));
            return found.map_err(|error| error.of_inode(inode.nid));
        }
        let run = self.run(inode, offset, u64::MAX)?;
        let place = match run.spot {
            Spot::Hole => Place::Hole,
            Spot::Metabox { position: offset } => {
                Place::Inside { nid: self.metabox_of(inode)?.nid, offset, encoded: None }
            }
            Spot::Blob { index, position } => {
                Place::Raw { blob: index, offset: self.absolute(index, position, inode.nid)? }
            }
        };
        Ok(Extent { logical: offset, len: run.len, place })
    }

    /// All runs of `inode`'s data in order.
    pub fn extents<'a>(&'a self, inode: &Inode) -> Extents<'a> {
        Extents::from(self, inode, 0)
    }

    /// Reads the data of a regular file from `offset` on and says how much. Less than `buf` holds
    /// only at the file's end. Uncompressed data goes straight into `buf`.
    pub fn read(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        check_file(inode)?;
        self.read_data(inode, offset, buf).map_err(|error| error.of_inode(inode.nid))
    }

    /// The same for every inode that has data.
    pub(crate) fn read_data(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read_share(inode, offset, buf, 1)
    }

    /// The same for one of `shares` parts of a call.
    pub(crate) fn read_share(
        &self,
        inode: &Inode,
        offset: u64,
        buf: &mut [u8],
        shares: u64,
    ) -> Result<usize> {
        if inode.data != DataStart::Compressed {
            return self.read_flat(inode, offset, buf);
        }
        let mut work = Work::new(self, left_from(inode, offset, buf.len()) as u64, shares);
        self.toolbox().with(|tools| self.read_encoded(tools, &mut work, inode, offset, buf))
    }

    /// The same for a compressed inode, with these tools.
    pub(crate) fn read_encoded(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        inode: &Inode,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let count = left_from(inode, offset, buf.len());
        if let Some(part) = buf.get_mut(..count).filter(|part| !part.is_empty()) {
            Encoded::new(self, inode)?.fill(tools, work, offset, part, count as u64)?;
        }
        Ok(count)
    }

    /// Fills `buf` from a byte position of an inode that must have so much data. It is part of a
    /// read that has tools and a budget.
    pub(crate) fn fill_inode(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        inode: &Inode,
        position: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let size = if inode.data == DataStart::None { 0 } else { inode.size };
        if position.checked_add(buf.len() as u64).is_none_or(|end| end > size) {
            let what = Corruption::PastFileEnd { needed: buf.len() as u64, size };
            return Err(Error::corrupt(Where::at(inode.nid, position), what));
        }
        if inode.data == DataStart::Compressed {
            let ahead = buf.len() as u64;
            return Encoded::new(self, inode)?.fill(tools, work, position, buf, ahead);
        }
        self.read_flat(inode, position, buf).map(|_| ())
    }

    /// Reads data that is not compressed.
    fn read_flat(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let run = self.run(inode, at, rest.len() as u64)?;
            let count = usize::try_from(run.len).unwrap_or(usize::MAX).min(rest.len());
            if count == 0 {
                break;
            }
            let rest = &mut rest[..count];
            match run.spot {
                Spot::Hole => rest.fill(0),
                Spot::Blob { index, position } if run.is_tail => {
                    rest.copy_from_slice(&self.blob_bytes(index, position, count)?);
                }
                Spot::Blob { index, position } => self.read_blob(index, position, rest)?,
                Spot::Metabox { position } => {
                    rest.copy_from_slice(&self.bytes(Space::Metabox, position, count)?);
                }
            }
            done += count;
        }
        Ok(done)
    }

    /// `len` bytes of a file that holds metadata (a directory, the metabox). Callers bound `len`.
    pub(crate) fn file_bytes(&self, inode: &Inode, position: u64, len: usize) -> Result<Bytes<'_>> {
        let needed = len as u64;
        let size = if inode.data == DataStart::None { 0 } else { inode.size };
        if position.checked_add(needed).is_none_or(|end| end > size) {
            let what = Corruption::PastFileEnd { needed, size };
            return Err(Error::corrupt(Where::at(inode.nid, position), what));
        }
        if inode.data != DataStart::Compressed {
            let run = self.run(inode, position, needed)?;
            match run.spot {
                Spot::Blob { index, position } if run.len >= needed => {
                    return self.blob_bytes(index, position, len);
                }
                Spot::Metabox { position } if run.len >= needed => {
                    return self.bytes(Space::Metabox, position, len);
                }
                _ => (),
            }
        }
        let mut bytes = vec![0; len];
        self.read_data(inode, position, &mut bytes)?;
        Ok(Bytes::Owned(bytes))
    }

    /// The run at `offset`; chunks are merged only until it has `want` bytes.
    fn run(&self, inode: &Inode, offset: u64, want: u64) -> Result<Run> {
        let Some(left) = inode.size.checked_sub(offset).filter(|left| *left != 0) else {
            return Ok(Run { len: 0, spot: Spot::Hole, is_tail: false });
        };
        match inode.data {
            DataStart::None | DataStart::Compressed => Err(Error::WrongType { nid: inode.nid }),
            DataStart::Hole => Ok(Run { len: left, spot: Spot::Hole, is_tail: false }),
            DataStart::Block(block) => self.flat_run(inode, block, offset, left),
            DataStart::Chunks(format) => self.chunk_run(inode, format, offset, left, want),
        }
    }

    fn flat_run(&self, inode: &Inode, block: u64, offset: u64, left: u64) -> Result<Run> {
        let mut len = left;
        if inode.layout == DataLayout::FlatInline {
            let block_size = u64::from(self.block_size());
            // All but the last block lie elsewhere; the last one, partial or whole, is the tail.
            let tail_start = (inode.size - 1) / block_size * block_size;
            if let Some(in_tail) = offset.checked_sub(tail_start) {
                return self.tail_run(inode, in_tail, left);
            }
            len = tail_start - offset;
        }
        let start = block.checked_mul(u64::from(self.block_size()));
        let position =
            start.and_then(|start| start.checked_add(offset)).ok_or_else(|| overflow(inode.nid))?;
        let spot = self.spot(0, position, inode.nid)?;
        Ok(Run { len, spot, is_tail: false })
    }

    fn tail_run(&self, inode: &Inode, in_tail: u64, left: u64) -> Result<Run> {
        let position = inode.body()?.checked_add(in_tail).ok_or_else(|| overflow(inode.nid))?;
        let block_size = u64::from(self.block_size());
        if position % block_size + left > block_size {
            let what = Corruption::InlineCrossesBlock { length: left };
            return Err(Error::corrupt(Where::at(inode.nid, position), what));
        }
        if inode.space == Space::Primary {
            return Ok(Run { len: left, spot: Spot::Blob { index: 0, position }, is_tail: true });
        }
        let metabox = self.metabox_of(inode)?;
        let size = metabox.size;
        if position.checked_add(left).is_none_or(|end| end > size) {
            let what = Corruption::PastFileEnd { needed: left, size };
            return Err(Error::corrupt(Where::at(inode.nid, position), what));
        }
        if metabox.data == DataStart::Compressed {
            return Ok(Run { len: left, spot: Spot::Metabox { position }, is_tail: true });
        }
        // The metabox lies on the primary, so this goes no deeper.
        let run = self.run(&metabox, position, left)?;
        Ok(Run { len: run.len.min(left), ..run })
    }

    /// The metabox, for an inode that lies in it.
    pub(crate) fn metabox_of(&self, inode: &Inode) -> Result<Inode> {
        self.metabox().ok_or_else(|| Error::corrupt(Where::nid(inode.nid), Corruption::NoMetabox))
    }

    fn chunk_run(
        &self,
        inode: &Inode,
        format: ChunkFormat,
        offset: u64,
        left: u64,
        want: u64,
    ) -> Result<Run> {
        // 16 + 31 bits at most, and sizes are below 2^63.
        let chunk_bits = u32::from(self.superblock().block_bits) + u32::from(format.chunkbits);
        let chunk_size = 1_u64 << chunk_bits;
        let last = (inode.size - 1) >> chunk_bits;
        let mut number = offset >> chunk_bits;
        let in_chunk = offset % chunk_size;
        let mut len = chunk_size - in_chunk;
        let mut entries = ChunkEntries::new(self, inode, format)?;
        let first = entries.spot(number)?;
        let mut next = advanced(first, chunk_size);
        let mut merged = 0;
        while len < left.min(want) && number < last && merged < self.limits().extents {
            number += 1;
            merged += 1;
            let spot = entries.spot(number)?;
            if spot != next {
                break;
            }
            next = advanced(spot, chunk_size);
            len += chunk_size;
        }
        let spot = match first {
            Spot::Hole => Spot::Hole,
            Spot::Blob { index, position } => {
                let position = position.checked_add(in_chunk).ok_or_else(|| overflow(inode.nid))?;
                Spot::Blob { index, position }
            }
            metabox @ Spot::Metabox { .. } => metabox,
        };
        Ok(Run { len: len.min(left), spot, is_tail: false })
    }

    fn spot(&self, device_id: u16, position: u64, nid: u64) -> Result<Spot> {
        let (index, position) = device::locate(self.superblock(), self.devices(), device_id, position, nid)?;
        Ok(Spot::Blob { index, position })
    }
}

/// Only regular files are read.
pub(crate) fn check_file(inode: &Inode) -> Result<()> {
    if inode.is_dir() {
        return Err(Error::IsADirectory { nid: inode.nid });
    }
    if inode.is_file() { Ok(()) } else { Err(Error::WrongType { nid: inode.nid }) }
}

/// How many of `len` bytes from `offset` on the inode has.
pub(crate) fn left_from(inode: &Inode, offset: u64, len: usize) -> usize {
    let left = inode.size.saturating_sub(offset);
    usize::try_from(left).unwrap_or(usize::MAX).min(len)
}

/// Where a chunk would lie that runs on behind the one at `spot`.
fn advanced(spot: Spot, chunk_size: u64) -> Spot {
    match spot {
        Spot::Blob { index, position } => Spot::Blob { index, position: position.saturating_add(chunk_size) },
        other => other,
    }
}

/// The addresses behind a chunk-based inode, fetched a few at a time.
struct ChunkEntries<'a> {
    image: &'a Image,
    nid: u64,
    space: Space,
    format: ChunkFormat,
    start: u64,
    count: u64,
    batch: Bytes<'a>,
    batch_start: u64,
}

impl<'a> ChunkEntries<'a> {
    fn new(image: &'a Image, inode: &Inode, format: ChunkFormat) -> Result<Self> {
        let chunk_bits = u32::from(image.superblock().block_bits) + u32::from(format.chunkbits);
        let start = inode.body()?.checked_next_multiple_of(format.entry_size());
        Ok(Self {
            image,
            nid: inode.nid,
            space: inode.space,
            format,
            start: start.ok_or_else(|| overflow(inode.nid))?,
            count: inode.size.div_ceil(1 << chunk_bits),
            batch: Bytes::Owned(Vec::new()),
            batch_start: 0,
        })
    }

    fn spot(&mut self, number: u64) -> Result<Spot> {
        let bits = self.image.superblock().block_bits;
        let address_48bit = self.format.address_48bit;
        let (device_id, block) = if self.format.indexes {
            let index = ChunkIndex::read_from_bytes(self.entry(number)?).unwrap_or_default();
            (index.device_id.get(), index.startblk(address_48bit))
        } else {
            let bytes = self.entry(number)?.first_chunk();
            let block = bytes.map_or(NULL_ADDR, |bytes| u32::from_le_bytes(*bytes));
            (0, (block != NULL_ADDR).then_some(u64::from(block)))
        };
        match block {
            None => Ok(Spot::Hole),
            // 48 and 16 bits at most.
            Some(block) => self.image.spot(device_id, block << bits, self.nid),
        }
    }

    /// The bytes of entry `number`.
    fn entry(&mut self, number: u64) -> Result<&[u8]> {
        let size = self.format.entry_size();
        let in_batch = |start: u64, len: usize| {
            number.checked_sub(start).filter(|in_batch| *in_batch < len as u64 / size)
        };
        if in_batch(self.batch_start, self.batch.len()).is_none() {
            self.fetch(number)?;
        }
        let at = (number - self.batch_start).saturating_mul(size);
        let rest = usize::try_from(at).ok().and_then(|at| self.batch.get(at..)).unwrap_or_default();
        Ok(rest.get(..usize::try_from(size).unwrap_or_default()).unwrap_or_default())
    }

    /// Fetches entries from `number` on, to the end of their block at most.
    fn fetch(&mut self, number: u64) -> Result<()> {
        let size = self.format.entry_size();
        let position = number.checked_mul(size).and_then(|at| at.checked_add(self.start));
        let position = position.ok_or_else(|| overflow(self.nid))?;
        let block_size = u64::from(self.image.block_size());
        let in_block = (block_size - position % block_size) / size;
        let count = (self.count - number.min(self.count)).min(in_block).max(1);
        let len = usize::try_from(count * size).unwrap_or_default();
        self.batch = self.image.bytes(self.space, position, len).map_err(|error| error.of_inode(self.nid))?;
        self.batch_start = number;
        Ok(())
    }
}

/// The runs of a file, see [`Image::extents`]. It ends after an error.
#[derive(Debug)]
pub struct Extents<'a> {
    image: &'a Image,
    inode: Inode,
    offset: u64,
    left: u64,
    /// Of a compressed inode: where in its map we are.
    encoded: Option<Encoded<'a>>,
}

impl Clone for Extents<'_> {
    fn clone(&self) -> Self {
        Self { encoded: None, ..*self }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.inode.size {
            return None;
        }
        let extent = self.bounded().map_err(|error| error.of_inode(self.inode.nid));
        self.offset = match &extent {
            Ok(extent) => self.offset.saturating_add(extent.len),
            Err(_) => u64::MAX,
        };
        Some(extent)
    }
}

impl<'a> Extents<'a> {
    /// The runs from `offset` on; the first one starts there.
    pub(crate) fn from(image: &'a Image, inode: &Inode, offset: u64) -> Self {
        Self { image, inode: *inode, offset, left: image.limits().extents, encoded: None }
    }

    fn bounded(&mut self) -> Result<Extent> {
        let limit = self.image.limits().extents;
        self.left = self.left.checked_sub(1).ok_or(Error::Limit {
            place: Where::at(self.inode.nid, self.offset),
            name: "extents",
            value: limit.saturating_add(1),
            limit,
        })?;
        if self.inode.data != DataStart::Compressed {
            return self.image.map(&self.inode, self.offset);
        }
        let encoded = match self.encoded.take() {
            Some(encoded) => encoded,
            None => Encoded::new(self.image, &self.inode)?,
        };
        self.encoded.insert(encoded).place(self.offset)
    }
}
