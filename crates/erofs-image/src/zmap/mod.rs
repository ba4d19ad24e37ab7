//! The map of a compressed inode: which encoded bytes hold which part of the file.
//!
//! ```text
//! header.rs   the map header            full.rs     8-byte index entries   extents.rs  extent records
//! window.rs   a piece of the index      compact.rs  packs of 2 or 16       clusters.rs index -> extents
//! ```
//!
//! The rules are those of Linux 7.2 (`fs/erofs/zmap.c`), and so are the bounds: an extent has at
//! most 1 MiB of encoded data that decode to at most 12 MiB.
mod clusters;
mod compact;
mod error;
mod extents;
mod full;
mod header;
#[cfg(test)]
mod tests;
mod window;

use erofs_format::compression::{Algorithm, PCLUSTER_MAX_DSIZE, PCLUSTER_MAX_SIZE};

pub use self::error::MapCorruption;

use self::extents::Records;
use self::header::Scheme;
use crate::device::{self, overflow};
use crate::error::{Error, Feature, Result, Where};
use crate::image::{Image, Space};
use crate::inode::Inode;

/// A run of a compressed file that is encoded as one: the whole of it, cut at the file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZExtent {
    /// Byte position in the file.
    pub(crate) la: u64,
    /// Bytes of the file.
    pub(crate) llen: u64,
    pub(crate) place: ZPlace,
}

/// Where the bytes of a [`ZExtent`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZPlace {
    /// They are zeros.
    Hole,
    /// The data of the packed inode, plain, from `offset` on.
    Fragment { offset: u64 },
    /// `plen` bytes at `at`, at most 1 MiB, which decode to `llen` bytes, at most 12 MiB; or, if
    /// `partial`, to more than them.
    Pcluster { at: ZAt, plen: u32, format: ZFormat, partial: bool },
}

/// Where a physical cluster lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZAt {
    /// In a blob, at a byte position from its block 0 on. Nobody has looked whether it is there.
    Blob { index: usize, position: u64 },
    /// Behind the index of its inode, inside one block.
    Inline { space: Space, position: u64 },
}

impl ZAt {
    /// The blob and the byte position in it. Without a blob it is one in the data of the metabox.
    pub(crate) fn in_blob(self) -> (Option<usize>, u64) {
        match self {
            Self::Blob { index, position } => (Some(index), position),
            Self::Inline { space: Space::Primary, position } => (Some(0), position),
            Self::Inline { space: Space::Metabox, position } => (None, position),
        }
    }
}

/// How a physical cluster is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ZFormat {
    /// Plain, from its first byte on.
    Shifted,
    /// Plain, rotated: the byte at position `p` of the file is byte `p % block size` of its block.
    Interlaced,
    Coded(Algorithm),
}

/// The map of one compressed inode. It is a cursor: asking onwards is cheap, as the piece of the
/// index that was read last is kept.
#[derive(Debug)]
pub(crate) struct ZMap<'a> {
    context: Context<'a>,
    scheme: Scheme<'a>,
    last: Option<ZExtent>,
}

/// What all kinds of maps need to know of the image and the inode.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    image: &'a Image,
    nid: u64,
    space: Space,
    size: u64,
    is_packed: bool,
}

impl<'a> ZMap<'a> {
    /// Reads the map header of `inode`, which must be compressed, and finds its tail.
    pub(crate) fn new(image: &'a Image, inode: &Inode) -> Result<Self> {
        let is_packed = image.superblock().packed_nid == Some(inode.nid);
        let context = Context { image, nid: inode.nid, space: inode.space, size: inode.size, is_packed };
        Ok(Self { context, scheme: Scheme::read(context, inode)?, last: None })
    }

    /// The extent that holds byte `offset` of the file; at or behind the file's end an empty hole. A
    /// very long hole may come in pieces.
    pub(crate) fn at(&mut self, offset: u64) -> Result<ZExtent> {
        let size = self.context.size;
        if offset >= size {
            return Ok(ZExtent { la: size, llen: 0, place: ZPlace::Hole });
        }
        if let Some(last) = self.last.filter(|last| last.holds(offset)) {
            return Ok(last);
        }
        let found = match &mut self.scheme {
            Scheme::Fragment { offset } => {
                self.context.fragment(0, *offset).map(|place| ZExtent { la: 0, llen: size, place })
            }
            Scheme::Clusters(clusters) => clusters.at(offset, self.last),
            Scheme::Records(records) => records.at(offset),
        };
        let extent = found.map_err(|error| error::located(error, self.context.nid, offset))?;
        if !extent.holds(offset) {
            return Err(self.context.corrupt(extent.la, MapCorruption::Inconsistent { offset }));
        }
        self.last = Some(extent);
        Ok(extent)
    }
}

impl ZExtent {
    fn holds(&self, offset: u64) -> bool {
        offset.checked_sub(self.la).is_some_and(|inside| inside < self.llen)
    }
}

/// A physical cluster as an index or a record states it.
#[derive(Clone, Copy, Debug)]
struct Stated {
    at: StatedAt,
    plen: u64,
    format: ZFormat,
    partial: bool,
}

#[derive(Clone, Copy, Debug)]
enum StatedAt {
    /// A byte position of the unified address space.
    Unified(u64),
    Inline(u64),
}

impl Context<'_> {
    fn corrupt(&self, la: u64, what: MapCorruption) -> Error {
        Error::corrupt(Where::extent(self.nid, la), what)
    }

    fn unsupported(&self, la: u64, feature: impl Into<Feature>) -> Error {
        Error::unsupported(Where::extent(self.nid, la), feature)
    }

    fn block_bits(&self) -> u32 {
        u32::from(self.image.superblock().block_bits)
    }

    fn fragment(&self, la: u64, offset: u64) -> Result<ZPlace> {
        if self.image.superblock().packed_nid.is_none() {
            return Err(self.corrupt(la, MapCorruption::NoPackedInode));
        }
        if self.is_packed {
            return Err(self.corrupt(la, MapCorruption::FragmentInPackedInode));
        }
        Ok(ZPlace::Fragment { offset })
    }

    /// The extent at `la`, if Linux would take it.
    fn pcluster(&self, la: u64, llen: u64, stated: Stated) -> Result<ZExtent> {
        let Stated { at, plen, format, partial } = stated;
        match format {
            ZFormat::Coded(algorithm) => {
                if self.image.superblock().codecs.get(algorithm).is_none() {
                    return Err(self.corrupt(la, MapCorruption::AlgorithmNotAvailable { algorithm }));
                }
                // The last one may be larger than its data: nothing smaller can be had.
                if !partial && llen < plen && la.saturating_add(llen) < self.size {
                    return Err(self.corrupt(la, MapCorruption::Grows { plen, llen }));
                }
            }
            ZFormat::Shifted | ZFormat::Interlaced if llen > plen => {
                return Err(self.corrupt(la, MapCorruption::PlainTooShort { plen, llen }));
            }
            ZFormat::Shifted | ZFormat::Interlaced => (),
        }
        let short = u32::try_from(plen).ok().filter(|plen| *plen <= PCLUSTER_MAX_SIZE);
        let plen = short.ok_or_else(|| self.unsupported(la, Feature::PclusterSize { found: plen }))?;
        if llen > u64::from(PCLUSTER_MAX_DSIZE) {
            return Err(self.unsupported(la, Feature::ExtentLength { found: llen }));
        }
        let at = match at {
            StatedAt::Unified(position) => self.place(la, position, plen)?,
            StatedAt::Inline(position) => ZAt::Inline { space: self.space, position },
        };
        Ok(ZExtent { la, llen, place: ZPlace::Pcluster { at, plen, format, partial } })
    }

    fn place(&self, la: u64, position: u64, plen: u32) -> Result<ZAt> {
        let end = position.checked_add(u64::from(plen)).ok_or_else(|| overflow(self.nid))?;
        if end >> self.block_bits() >= 1 << 48 {
            return Err(self.corrupt(la, MapCorruption::BeyondAddresses { position }));
        }
        let image = self.image;
        let found = device::locate(image.superblock(), image.devices(), 0, position, self.nid);
        let (index, position) = found?;
        Ok(ZAt::Blob { index, position })
    }
}
