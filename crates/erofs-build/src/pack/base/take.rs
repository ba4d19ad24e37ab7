//! Extents of an earlier image in place of an encoder's.

use std::ops::Range;

use erofs_image::{Algorithm, ClusterAt, EncodedExtent, EncodedPlace, Encoding, Inode};

use super::{Base, failed};
use crate::error::Result;
use crate::pack::clusters::{End, Rest};
use crate::pack::content::Content;
use crate::zmap::Extent;

/// What clusters of this build are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Like {
    pub(crate) algorithm: Algorithm,
    /// Bytes of a cluster at most.
    pub(crate) cluster: u32,
    pub(crate) block_size: u32,
    pub(crate) is_dense: bool,
    /// Files may share clusters, so that where one starts in its block is open.
    pub(crate) is_shared: bool,
}

/// A compressed file of an earlier image.
#[derive(Debug)]
pub(crate) struct Old<'a> {
    base: &'a Base,
    inode: Inode,
    encoding: Encoding<'a>,
}

/// An extent that is to be taken.
struct Taken {
    llen: u64,
    is_coded: bool,
    /// Nothing for a hole.
    cluster: Option<(ClusterAt, u32)>,
}

impl<'a> Old<'a> {
    pub(super) fn new(base: &'a Base, inode: Inode, encoding: Encoding<'a>) -> Self {
        Self { base, inode, encoding }
    }

    /// Bytes of the xattrs beside the inode, on which it depends whether a last cluster fits there too.
    pub(crate) fn xattr_size(&self) -> u64 {
        self.inode.xattr_size()
    }

    /// Puts the clusters of these bytes of the file into `content`, as an encoder would that makes them of all of it and
    /// treats the end as `end` says. Nothing, if they can't be those.
    pub(in crate::pack) fn take(
        &mut self,
        bytes: Range<u64>,
        end: End,
        like: Like,
        content: &mut Content<'_>,
        extents: &mut Vec<Extent>,
    ) -> Result<Option<Rest>> {
        let Some((taken, rest)) = self.find(bytes, end, like)? else { return Ok(None) };
        let mut buffer = Vec::new();
        for Taken { llen, is_coded, cluster } in taken {
            let at = content.bytes();
            let plen = cluster.map_or(0, |(_, plen)| plen);
            if let Some((place, plen)) = cluster {
                self.read(place, plen, &mut buffer)?;
                content.put(&buffer);
            }
            extents.push(Extent { llen, is_coded, at, plen, is_partial: false });
        }
        Ok(Some(rest))
    }

    fn read(&self, at: ClusterAt, plen: u32, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(plen as usize, 0);
        self.base.image.cluster(at, buffer).map_err(failed(&self.base.path))
    }

    /// The extents of these bytes, and what is left behind them.
    fn find(&mut self, bytes: Range<u64>, end: End, like: Like) -> Result<Option<(Vec<Taken>, Rest)>> {
        let block_size = u64::from(like.block_size);
        let mut taken = Vec::new();
        let mut at = bytes.start;
        while at < bytes.end {
            let extent = self.encoding.at(at).map_err(failed(&self.base.path))?;
            let EncodedExtent { logical, len, place } = extent;
            let Some(extent_end) = logical.checked_add(len).filter(|end| *end > at && logical == at) else {
                return Ok(None);
            };
            let left = Rest { from: usize::try_from(at - bytes.start).unwrap_or(usize::MAX), small: None };
            if extent_end > bytes.end {
                // The next section has what this one left.
                let is_left = end == End::Section && bytes.end - at < block_size;
                return Ok((is_left && at > bytes.start).then_some((taken, left)));
            }
            let (cluster, plen, algorithm) = match place {
                EncodedPlace::Hole if like.is_dense => {
                    taken.push(Taken { llen: len, is_coded: false, cluster: None });
                    at = extent_end;
                    continue;
                }
                EncodedPlace::Fragment { .. } if end == End::Left => {
                    // Where equal contents are stored once, it may be that an equal section was a fragment.
                    let is_sure = !like.is_shared || at > bytes.start;
                    return Ok(is_sure.then_some((taken, left)));
                }
                EncodedPlace::Cluster { at, len, algorithm } => (at, len, algorithm),
                _ => return Ok(None),
            };
            if algorithm.is_some_and(|algorithm| algorithm != like.algorithm) {
                return Ok(None);
            }
            let is_coded = algorithm.is_some();
            if cluster.is_inline() {
                let most = if let End::LeftIfSmall(most) = end { most } else { 0 };
                if extent_end < bytes.end || plen as usize > most {
                    return Ok(None);
                }
                let mut small = Vec::new();
                self.read(cluster, plen, &mut small)?;
                return Ok(Some((taken, Rest { small: Some((small, is_coded)), ..left })));
            }
            let is_last = extent_end == bytes.end && !matches!(end, End::Section);
            if !is_possible(at..extent_end, plen, is_coded, is_last, like) {
                return Ok(None);
            }
            taken.push(Taken { llen: len, is_coded, cluster: Some((cluster, plen)) });
            at = extent_end;
        }
        let from = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
        Ok(Some((taken, Rest { from, small: None })))
    }
}

/// Whether a cluster of `plen` bytes could have been made of these bytes of a file.
fn is_possible(bytes: Range<u64>, plen: u32, is_coded: bool, is_last: bool, like: Like) -> bool {
    let block_size = u64::from(like.block_size);
    let length = bytes.end - bytes.start;
    let room = if is_coded { like.cluster } else { like.block_size };
    if like.is_dense {
        return plen > 0 && (if is_coded { plen <= room } else { u64::from(plen) == length });
    }
    if plen == 0 || plen > room || !plen.is_multiple_of(like.block_size) {
        return false;
    }
    // Each starts in a block of its own, and a plain one at the end lies in one block.
    let blocks = bytes.start / block_size..bytes.end / block_size;
    let (Some(last), true) = (bytes.end.checked_sub(1), length > 0) else { return false };
    if is_last {
        return is_coded || (blocks.start == last / block_size && length <= block_size);
    }
    !blocks.is_empty() && (!like.is_shared || length >= block_size) && (is_coded || length <= block_size)
}
