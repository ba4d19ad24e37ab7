//! The map header: of which kind a map is.

use erofs_format::FeatureIncompat;
use erofs_format::compression::Algorithm;
use erofs_format::inode::DataLayout;
use erofs_format::zmap::{Advise, CLUSTERBITS_MASK, FULL_INDEX_START, MAP_HEADER_ALIGN, MapHeader};
use zerocopy::FromBytes;

use super::clusters::{Clusters, Tail};
use super::compact::CompactIndex;
use super::full::FullIndex;
use super::{Context, MapCorruption, Records};
use crate::device::overflow;
use crate::error::{Error, Result, Where};
use crate::inode::Inode;

const HEADER_SIZE: usize = size_of::<MapHeader>();

/// The three kinds of maps.
#[derive(Debug)]
pub(super) enum Scheme<'a> {
    /// The whole file lies in the packed inode, from `offset` on.
    Fragment { offset: u64 },
    /// An index with an entry for each logical cluster.
    Clusters(Clusters<'a>),
    /// Extent records.
    Records(Records<'a>),
}

impl<'a> Scheme<'a> {
    pub(super) fn read(context: Context<'a>, inode: &Inode) -> Result<Self> {
        let start = inode.body()?.checked_next_multiple_of(MAP_HEADER_ALIGN);
        let start = start.ok_or_else(|| overflow(inode.nid))?;
        let bytes = context.image.bytes(inode.space, start, HEADER_SIZE);
        let bytes = bytes.map_err(|error| error.of_inode(inode.nid))?;
        let header = MapHeader::read_from_bytes(&bytes).unwrap_or_default();
        if let Some(offset) = header.fragment_inode() {
            return Ok(Self::Fragment { offset });
        }
        // Linux ignores bits of h_advise that it does not know.
        let advise = Advise::from_bits_truncate(header.h_advise.get());
        // 16 + 15 at most.
        let bits = context.block_bits() + u32::from(header.h_clusterbits & CLUSTERBITS_MASK);
        let is_full = inode.layout == DataLayout::CompressedFull;
        let behind = start.checked_add(HEADER_SIZE as u64).ok_or_else(|| overflow(inode.nid))?;
        if is_full && advise.contains(Advise::EXTENTS) {
            return Records::new(context, behind, advise, bits, header.extents()).map(Self::Records);
        }
        let here = Where::at(inode.nid, start);
        let algorithms = algorithms(header, here)?;
        check_big_pclusters(&context, advise, is_full, here)?;
        let tail = if advise.contains(Advise::FRAGMENT_PCLUSTER) {
            Tail::Fragment { offset: u64::from(header.fragmentoff()) }
        } else if advise.contains(Advise::INLINE_PCLUSTER) && header.idata_size() != 0 {
            Tail::Inline { plen: u64::from(header.idata_size()), position: 0 }
        } else {
            Tail::None
        };
        let index = if is_full {
            let start = start.checked_add(FULL_INDEX_START).ok_or_else(|| overflow(inode.nid))?;
            FullIndex::new(context, start, advise, bits).into()
        } else {
            CompactIndex::new(context, behind, advise, bits).into()
        };
        let clusters = Clusters::new(context, index, advise, bits, algorithms, tail);
        clusters.map(Self::Clusters).map_err(|error| error.of_inode(inode.nid))
    }
}

/// The algorithms of HEAD1 and HEAD2. Linux wants to know both, also where only one is used.
fn algorithms(header: MapHeader, here: Where) -> Result<[Algorithm; 2]> {
    let algorithm = |number: u8| Algorithm::try_from(number).map_err(|error| Error::unsupported(here, error));
    Ok([algorithm(header.h_algorithmtype & 0xf)?, algorithm(header.h_algorithmtype >> 4)?])
}

fn check_big_pclusters(context: &Context<'_>, advise: Advise, is_full: bool, here: Where) -> Result<()> {
    let big = [Advise::BIG_PCLUSTER_1, Advise::BIG_PCLUSTER_2].map(|bit| advise.contains(bit));
    let has_feature = context.image.superblock().feature_incompat.contains(FeatureIncompat::BIG_PCLUSTER);
    if !has_feature && big.contains(&true) {
        return Err(Error::corrupt(here, MapCorruption::BigPclusterFeature));
    }
    if !is_full && big[0] != big[1] {
        return Err(Error::corrupt(here, MapCorruption::BigPclusterHeads));
    }
    Ok(())
}
