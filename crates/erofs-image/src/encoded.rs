//! The data of compressed inodes.
//!
//! ```text
//! offset -> ZMap -> extent -> hole      zeros
//!                          -> fragment  the same for the packed inode's data
//!                          -> plain     bytes of a blob, or a tail beside the inode
//!                          -> cluster   fetched (Window), decoded (Decoder) into the caller's
//!                                       buffer, or into Clusters if only a part is wanted
//! ```
//!
//! What may lead where is bounded: a file to the packed inode and to the metabox, the packed inode
//! to the metabox, the metabox to a packed inode that does not lie in it, and nothing to itself.

use erofs_codec::{Want, skip_padding};
use erofs_format::FeatureIncompat;
use erofs_format::compression::Algorithm;
use erofs_format::inode::NID_METABOX_BIT;

use crate::cache::Bytes;
use crate::clusters::{ClusterKey, Decoded};
use crate::data::{Extent, Place};
use crate::device::overflow;
use crate::error::{Corruption, Error, Result, Where};
use crate::image::Image;
use crate::inode::{DataStart, Inode};
use crate::room::SMALL as SMALL_ROOM;
use crate::scratch::Tools;
use crate::window;
use crate::zmap::{ZAt, ZExtent, ZFormat, ZMap, ZPlace};

/// Decoding less than this saves nothing worth the while.
const SMALL: usize = 128 << 10;

/// Fragments up to this size are read without a look at what the packed inode has there.
const LONG_FRAGMENT: u64 = 64 << 20;

/// Uncompressed runs up to this size are fetched together with their neighbours.
const GATHER: usize = 64 << 10;

/// What one call may still cause, see [`crate::Limits::decoded_bytes`].
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
    allowed: u64,
    limit: u64,
}

impl Work {
    /// Bytes of work that are fine for each byte asked for.
    const FACTOR: u64 = 64;

    /// For `wanted` bytes in one of `shares` parts of a call.
    pub(crate) fn new(image: &Image, wanted: u64, shares: u64) -> Self {
        let limit = image.limits().decoded_bytes;
        let allowed = (limit / shares.max(1)).saturating_add(wanted.saturating_mul(Self::FACTOR));
        Self { left: allowed, allowed, limit }
    }

    fn spend(&mut self, bytes: u64, place: Where) -> Result<()> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        let value = (self.allowed - self.left).saturating_add(bytes);
        Err(Error::Limit { place, name: "decoded_bytes", value, limit: self.limit })
    }
}

/// A cluster to decode.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    at: ZAt,
    plen: u32,
    algorithm: Algorithm,
    /// How long the extent is, and whether the cluster may decode to more than that.
    llen: usize,
    longer: bool,
    /// Bytes that will be wanted behind the cluster's beginning.
    ahead: u64,
}

/// A compressed inode that is being read.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    image: &'a Image,
    inode: Inode,
    map: ZMap<'a>,
}

impl<'a> Encoded<'a> {
    /// Starts on `inode`, which is compressed.
    pub(crate) fn new(image: &'a Image, inode: &Inode) -> Result<Self> {
        debug_assert!(inode.data == DataStart::Compressed, "only compressed inodes have a map");
        Ok(Self { image, inode: *inode, map: ZMap::new(image, inode)? })
    }

    /// The extent at `offset`, which is below the file's size.
    pub(crate) fn extent(&mut self, offset: u64) -> Result<ZExtent> {
        self.map.at(offset)
    }

    /// Fills `buf` from `offset` on. All of it lies below the file's size. `ahead` bytes behind
    /// `offset` will likely be read by later calls, those of `buf` included.
    pub(crate) fn fill(
        &mut self,
        tools: &mut Tools,
        work: &mut Work,
        offset: u64,
        buf: &mut [u8],
        ahead: u64,
    ) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let extent = self.extent(at)?;
            // The extent holds `at`.
            let skip = at - extent.la;
            let count = usize::try_from(extent.llen - skip).unwrap_or(usize::MAX).min(rest.len());
            let ahead = ahead.saturating_sub(done as u64).max(rest.len() as u64);
            let (part, _) = rest.split_at_mut(count);
            self.fill_part(tools, work, &extent, skip, part, ahead)
                .map_err(|error| error.of_extent(self.inode.nid, extent.la))?;
            done += count;
        }
        Ok(())
    }

    /// Fills `part`, which lies `skip` bytes behind the beginning of `extent` and within it.
    fn fill_part(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        extent: &ZExtent,
        skip: u64,
        part: &mut [u8],
        ahead: u64,
    ) -> Result<()> {
        match extent.place {
            ZPlace::Hole => {
                part.fill(0);
                Ok(())
            }
            ZPlace::Fragment { offset } => {
                let packed = self.packed()?;
                let position = offset.checked_add(skip).ok_or_else(|| overflow(self.inode.nid))?;
                let needed = part.len() as u64;
                // The file whose fragment it is tells a lie, or the packed inode does: the error
                // names the one that was to be read.
                if position.checked_add(needed).is_none_or(|end| end > packed.size) {
                    let what = Corruption::PastFileEnd { needed, size: packed.size };
                    return Err(Error::corrupt(Where::at(self.inode.nid, position), what));
                }
                let filled = self.image.fill_inode(tools, work, &packed, position, part);
                filled.map_err(|error| error.of_fragment(packed.nid))
            }
            ZPlace::Pcluster { at, format: ZFormat::Shifted, .. } => {
                self.fill_plain(tools, work, at, skip, part, ahead)
            }
            ZPlace::Pcluster { at, plen, format: ZFormat::Interlaced, .. } => {
                let [first, second] = self.rotated(extent.la, plen, skip, part.len() as u64);
                let (head, tail) = part.split_at_mut(usize::try_from(first.1).unwrap_or_default());
                self.fill_plain(tools, work, at, first.0, head, ahead)?;
                self.fill_plain(tools, work, at, second.0, tail, ahead)
            }
            ZPlace::Pcluster { at, plen, format: ZFormat::Coded(algorithm), partial } => {
                let llen = usize::try_from(extent.llen).unwrap_or(usize::MAX);
                let ahead = ahead.saturating_add(skip);
                // Linux stops decoding these two where the extent ends, and never looks whether the
                // stream does: mkfs.erofs has made such images, and they mount.
                let longer = partial || matches!(algorithm, Algorithm::Deflate | Algorithm::Zstd);
                let cluster = Cluster { at, plen, algorithm, llen, longer, ahead };
                self.fill_decoded(tools, work, &cluster, usize::try_from(skip).unwrap_or(usize::MAX), part)
            }
        }
    }

    /// Where in a rotated plain cluster the bytes lie that are `skip` behind the extent's
    /// beginning: two runs of (position, length). Each byte keeps its place within a block, so the
    /// first ones, up to the end of a block, come last in the cluster.
    fn rotated(&self, la: u64, plen: u32, skip: u64, len: u64) -> [(u64, u64); 2] {
        let block_size = u64::from(self.image.block_size());
        let first = block_size - la % block_size;
        let in_first = len.min(first.saturating_sub(skip));
        let start = u64::from(plen).saturating_sub(first).saturating_add(skip);
        [(start, in_first), (skip.saturating_add(in_first).saturating_sub(first), len - in_first)]
    }

    /// Copies uncompressed bytes, `skip` bytes behind the beginning of their cluster.
    fn fill_plain(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        at: ZAt,
        skip: u64,
        part: &mut [u8],
        ahead: u64,
    ) -> Result<()> {
        work.spend(part.len() as u64, Where::nid(self.inode.nid))?;
        let shifted = |position: u64| position.checked_add(skip).ok_or_else(|| overflow(self.inode.nid));
        match at {
            ZAt::Blob { index, position } if part.len() <= GATHER => {
                let position = shifted(position)?;
                part.copy_from_slice(tools.window.fetch(self.image, index, position, part.len(), ahead)?);
                Ok(())
            }
            ZAt::Blob { index, position } => self.image.read_blob(index, shifted(position)?, part),
            ZAt::Inline { space, position } => {
                part.copy_from_slice(&self.image.bytes(space, shifted(position)?, part.len())?);
                Ok(())
            }
        }
    }

    /// Fills `part` with what lies `skip` bytes behind the beginning of what `cluster` decodes to.
    fn fill_decoded(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        cluster: &Cluster,
        skip: usize,
        part: &mut [u8],
    ) -> Result<()> {
        let end = skip.saturating_add(part.len());
        let is_whole = skip == 0 && end == cluster.llen;
        let clusters = self.image.clusters();
        let bytes = if let Some(bytes) = clusters.get(cluster.key(), end) {
            bytes
        } else {
            // Before room is taken: this may decode a cluster of the metabox.
            let inline = self.inline(cluster)?;
            let buffer = if is_whole || cluster.llen <= SMALL_ROOM { 0 } else { cluster.llen };
            let needed = if tools.has_room { 0 } else { buffer + cluster.large_input() };
            let _taken = clusters.room().take(needed);
            if is_whole {
                return self.decode(tools, work, cluster, inline.as_deref(), part);
            }
            self.beginning(tools, work, cluster, inline.as_deref(), end)?
        };
        part.copy_from_slice(bytes.get(skip..end).unwrap_or_default());
        Ok(())
    }

    /// At least `len` bytes of what `cluster` decodes to, from the cache or into it.
    fn beginning(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        cluster: &Cluster,
        inline: Option<&[u8]>,
        len: usize,
    ) -> Result<Decoded> {
        let mut decode = |known: bool| {
            // A small step into a large cluster may be the only one. The second one shows that it
            // is not, and in the packed inode the neighbours are other files' fragments.
            let all = known || self.is_packed() || len > cluster.llen / 2 || cluster.llen <= SMALL;
            let len = if all { cluster.llen } else { len.next_power_of_two().max(SMALL).min(cluster.llen) };
            let mut bytes = self.image.clusters().room().buffer(len);
            self.decode(tools, work, cluster, inline, &mut bytes)?;
            Ok(bytes)
        };
        self.image.clusters().get_or_decode(cluster.key(), len, &mut decode)
    }

    /// The bytes of a cluster that lies beside its inode.
    fn inline(&self, cluster: &Cluster) -> Result<Option<Bytes<'_>>> {
        match cluster.at {
            ZAt::Blob { .. } => Ok(None),
            ZAt::Inline { space, position } => {
                let len = usize::try_from(cluster.plen).unwrap_or(usize::MAX);
                self.image.bytes(space, position, len).map(Some)
            }
        }
    }

    /// Decodes the beginning of a cluster, or all of it, into `output`. `inline`: its bytes, if it
    /// lies beside its inode.
    fn decode(
        &self,
        tools: &mut Tools,
        work: &mut Work,
        cluster: &Cluster,
        inline: Option<&[u8]>,
        output: &mut [u8],
    ) -> Result<()> {
        let image = self.image;
        let Cluster { at, plen, algorithm, .. } = *cluster;
        let nid = self.inode.nid;
        work.spend(u64::from(plen).saturating_add(output.len() as u64), Where::nid(nid))?;
        let (key, wanted) = (cluster.key(), output.len());
        let (_, position) = at.in_blob();
        let broken =
            |cause| Error::corrupt(Where::at(nid, position), Corruption::Decode { algorithm, cause });
        if let Some(cause) = image.clusters().broken().why(key, wanted) {
            return Err(broken(cause));
        }
        let failed = |cause| {
            image.clusters().broken().remember(key, wanted, cause);
            broken(cause)
        };
        // The map lets no cluster be longer than 1 MiB.
        let len = usize::try_from(plen).unwrap_or(usize::MAX);
        let room = image.clusters().room();
        let mut large = None;
        let input = match at {
            ZAt::Blob { index, .. } if cluster.large_input() == 0 => {
                tools.window.fetch(image, index, position, len, cluster.ahead)?
            }
            ZAt::Blob { index, .. } => {
                if let Some(lent) = image.lent(index, position, len) {
                    lent
                } else {
                    let bytes = large.insert(room.buffer(len));
                    image.read_blob(index, position, bytes)?;
                    &**bytes
                }
            }
            ZAt::Inline { .. } => inline.unwrap_or_default(),
        };
        // Before LZ4_0PADDING an LZ4 block started where its cluster does, and nothing said where
        // in the cluster's last block it ends.
        let padded = algorithm != Algorithm::Lz4
            || image.superblock().feature_incompat.contains(FeatureIncompat::LZ4_0PADDING);
        let block_size = u64::from(image.block_size());
        let first_block = usize::try_from(block_size - position % block_size).unwrap_or_default();
        let input = if padded { skip_padding(input, first_block).map_err(failed)? } else { input };
        let whole = padded && !cluster.longer && output.len() == cluster.llen;
        let codec = image.codec(algorithm, nid)?;
        let want = if whole { Want::Whole } else { Want::Prefix };
        tools.decoder.decode(codec, input, output, want).map_err(failed)?;
        if let Some(bytes) = large {
            room.keep(bytes);
        }
        Ok(())
    }

    fn is_packed(&self) -> bool {
        self.image.superblock().packed_nid == Some(self.inode.nid)
    }

    /// The packed inode, for a fragment of this one.
    fn packed(&self) -> Result<Inode> {
        // Before it is looked at: even its inode may lie in the metabox.
        let lies_in_metabox =
            self.image.superblock().packed_nid.is_some_and(|nid| nid & NID_METABOX_BIT != 0);
        let is_metabox = self.image.metabox().is_some_and(|metabox| metabox.nid == self.inode.nid);
        if self.is_packed() || (is_metabox && lies_in_metabox) {
            return Err(Error::corrupt(Where::nid(self.inode.nid), Corruption::FragmentLoop));
        }
        self.image.packed(self.inode.nid)
    }

    /// How many of the `len` bytes from `position` on of the packed inode to take at once, and
    /// whether they are a hole there. A fragment has a claimed length only, so a long one is looked
    /// at: hours would go into reading zeros that nobody stored.
    pub(crate) fn in_packed(&self, position: u64, len: u64) -> Result<(bool, u64)> {
        if len <= LONG_FRAGMENT {
            return Ok((false, len));
        }
        let packed = self.packed()?;
        if position.checked_add(len).is_none_or(|end| end > packed.size) {
            // Who reads it is told.
            return Ok((false, len));
        }
        let run = self.image.map(&packed, position)?;
        match run.place {
            Place::Hole => Ok((true, len.min(run.len))),
            _ => Ok((false, len.min(run.len.max(LONG_FRAGMENT)))),
        }
    }

    /// The run at `offset` for those who ask where data lies.
    pub(crate) fn place(&mut self, offset: u64) -> Result<Extent> {
        let extent = self.extent(offset)?;
        let nid = self.inode.nid;
        let skip = offset - extent.la;
        let mut len = extent.llen - skip;
        let place = match extent.place {
            ZPlace::Hole => Place::Hole,
            ZPlace::Fragment { offset } => {
                let nid = self.packed().map_err(|error| error.of_extent(nid, extent.la))?.nid;
                let offset = offset.checked_add(skip).ok_or_else(|| overflow(self.inode.nid))?;
                let (is_hole, part) = self.in_packed(offset, len)?;
                len = part;
                if is_hole { Place::Hole } else { Place::Inside { nid, offset, encoded: None } }
            }
            ZPlace::Pcluster { at, plen, format: ZFormat::Coded(algorithm), .. } => {
                self.shown(at, 0, Some((plen, Some(algorithm))))?
            }
            ZPlace::Pcluster { at, format: ZFormat::Shifted, .. } => self.shown(at, skip, None)?,
            ZPlace::Pcluster { at, plen, format: ZFormat::Interlaced, .. } => {
                match self.rotated(extent.la, plen, skip, len) {
                    [(start, _), (_, 0)] | [(_, 0), (start, _)] => self.shown(at, start, None)?,
                    _ => self.shown(at, 0, Some((plen, None)))?,
                }
            }
        };
        Ok(Extent { logical: offset, len, place })
    }

    /// `skip` bytes behind `at`, as [`Place`] says it.
    fn shown(&self, at: ZAt, skip: u64, encoded: Option<(u32, Option<Algorithm>)>) -> Result<Place> {
        let nid = self.inode.nid;
        let (blob, position) = at.in_blob();
        let position = position.checked_add(skip).ok_or_else(|| overflow(nid))?;
        let Some(blob) = blob else {
            let holder = self.image.metabox_of(&self.inode)?;
            let encoded = encoded.and_then(|(plen, algorithm)| Some((u64::from(plen), algorithm?)));
            return Ok(Place::Inside { nid: holder.nid, offset: position, encoded });
        };
        let offset = self.image.absolute(blob, position, nid)?;
        Ok(match encoded {
            None => Place::Raw { blob, offset },
            Some((plen, algorithm)) => Place::Encoded { blob, offset, len: u64::from(plen), algorithm },
        })
    }
}

impl Cluster {
    /// Bytes that it takes to fetch it, unless they fit into a window.
    fn large_input(&self) -> usize {
        usize::try_from(self.plen).ok().filter(|plen| *plen > window::MOST).unwrap_or_default()
    }

    /// Its key in the cache.
    fn key(&self) -> ClusterKey {
        let (blob, position) = self.at.in_blob();
        let exact = (!self.longer).then_some(self.llen);
        ClusterKey { blob, position, plen: self.plen, algorithm: self.algorithm, exact }
    }
}
