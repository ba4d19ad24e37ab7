//! Compressed files as they are stored: for those who take clusters without decoding them.

use erofs_format::compression::Algorithm;
use erofs_format::record::{RECORD_MAX, record};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::inode::{DataStart, Inode};
use crate::zmap::{ZAt, ZExtent, ZFormat, ZMap, ZPlace};

/// A run of a compressed file that is stored as one: the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedExtent {
    /// Byte position in the file.
    pub logical: u64,
    /// Bytes of the file.
    pub len: u64,
    /// How they are stored.
    pub place: EncodedPlace,
}

/// How a run is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodedPlace {
    /// Not at all: they are zeros.
    Hole,
    /// In the data of the packed inode, from `offset` on.
    Fragment {
        /// Byte position in that data.
        offset: u64,
    },
    /// In a cluster that holds this run and nothing else.
    Cluster {
        /// Where it is; see [`Image::cluster`].
        at: ClusterAt,
        /// Bytes of it, at most 1 MiB.
        len: u32,
        /// How it is encoded; `None`: as it is, from the cluster's first byte on.
        algorithm: Option<Algorithm>,
    },
    /// In a cluster that holds more than this run, or holds it rotated.
    Other,
}

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterAt(ZAt);

impl ClusterAt {
    /// Whether it lies beside its inode.
    pub fn is_inline(&self) -> bool {
        matches!(self.0, ZAt::Inline { .. })
    }
}

/// The extents of one compressed file. It is a cursor: asking onwards is cheap.
#[derive(Debug)]
pub struct Encoding<'a>(ZMap<'a>);

impl Encoding<'_> {
    /// The extent that holds byte `offset` of the file; at or behind the file's end an empty hole.
    pub fn at(&mut self, offset: u64) -> Result<EncodedExtent> {
        let ZExtent { la, llen, place } = self.0.at(offset)?;
        let place = match place {
            ZPlace::Hole => EncodedPlace::Hole,
            ZPlace::Fragment { offset } => EncodedPlace::Fragment { offset },
            ZPlace::Pcluster { at, plen, format: ZFormat::Shifted, partial: false } => {
                EncodedPlace::Cluster { at: ClusterAt(at), len: plen, algorithm: None }
            }
            ZPlace::Pcluster { at, plen, format: ZFormat::Coded(algorithm), partial: false } => {
                EncodedPlace::Cluster { at: ClusterAt(at), len: plen, algorithm: Some(algorithm) }
            }
            ZPlace::Pcluster { .. } => EncodedPlace::Other,
        };
        Ok(EncodedExtent { logical: la, len: llen, place })
    }
}

impl Image {
    /// The extents of a compressed inode; `None` if it is not compressed.
    pub fn encoding(&self, inode: &Inode) -> Result<Option<Encoding<'_>>> {
        if inode.data != DataStart::Compressed {
            return Ok(None);
        }
        let map = ZMap::new(self, inode).map_err(|error| error.of_inode(inode.nid))?;
        Ok(Some(Encoding(map)))
    }

    /// Fills `buf` with the bytes of a cluster of this image.
    pub fn cluster(&self, at: ClusterAt, buf: &mut [u8]) -> Result<()> {
        match at.0 {
            ZAt::Blob { index, position } => self.read_blob(index, position, buf),
            ZAt::Inline { space, position } => {
                buf.copy_from_slice(&self.bytes(space, position, buf.len())?);
                Ok(())
            }
        }
    }

    /// The inode whose data are the fragments of others, if there is one.
    pub fn packed_inode(&self) -> Result<Option<Inode>> {
        self.superblock().packed_nid.map(|nid| self.inode(nid)).transpose()
    }

    /// What the tool that made the image left before the superblock about how it did ([`erofs_format::record`]).
    pub fn build_record(&self) -> Result<Option<String>> {
        let mut beginning = [0; RECORD_MAX];
        match self.read_blob(0, 0, &mut beginning) {
            Ok(()) => Ok(record(&beginning).map(Into::into)),
            Err(Error::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
