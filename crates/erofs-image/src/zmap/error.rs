//! What can be wrong with the map of a compressed inode.

use erofs_format::compression::Algorithm;

use crate::error::Error;

/// The rule for the maps of compressed inodes that an image breaks. The place of the error names
/// the inode and the byte position in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapCorruption {
    /// `h_advise` speaks of big pclusters, the superblock does not.
    #[error("big pclusters in an image without the feature")]
    BigPclusterFeature,
    /// A compact index allows big pclusters for one kind of head only.
    #[error("big pclusters for one kind of head only in a compact index")]
    BigPclusterHeads,
    /// A compact index has no entry for the position.
    #[error("lcluster {lcn} is not in the compact index")]
    NoEntry {
        /// The logical cluster.
        lcn: u64,
    },
    /// The data of a head starts outside of it.
    #[error("clusterofs {found} lies outside of lcluster {lcn}")]
    ClusterOffset {
        /// The logical cluster.
        lcn: u64,
        /// `clusterofs`.
        found: u32,
    },
    /// The way back to a head leads nowhere.
    #[error("distance {distance} back from lcluster {lcn} leads to no head")]
    Lookback {
        /// The logical cluster.
        lcn: u64,
        /// How far back it says its head is.
        distance: u64,
    },
    /// An entry states the size of a big pcluster where there may be none.
    #[error("lcluster {lcn} states a pcluster size in an inode without big pclusters")]
    UnexpectedBlockCount {
        /// The logical cluster.
        lcn: u64,
    },
    /// The entry behind the head of a big pcluster does not state its size.
    #[error("lcluster {lcn} does not state the size of its pcluster")]
    NoBlockCount {
        /// The logical cluster.
        lcn: u64,
    },
    /// In a pack of a compact index an entry points back to itself or to the entry before it,
    /// where that would have to state a size.
    #[error("distance {distance} back in a pack of lcluster {lcn}")]
    PackDistance {
        /// A logical cluster of the pack.
        lcn: u64,
        /// The distance.
        distance: u32,
    },
    /// The entries contradict each other: the extent that should hold a position does not.
    #[error("the index contradicts itself about byte {offset} of the file")]
    Inconsistent {
        /// The byte position in the file.
        offset: u64,
    },
    /// The pcluster behind the index leaves its block.
    #[error("inline pcluster of {plen} bytes crosses a block boundary")]
    InlineCrossesBlock {
        /// Bytes of the pcluster.
        plen: u64,
    },
    /// Extent records do not ascend.
    #[error("extent record for byte {found} of the file is not below the one behind it")]
    Unsorted {
        /// The position that the record states.
        found: u64,
    },
    /// The algorithm is not among those that the superblock names.
    #[error("algorithm {} is not in available_compr_algs", algorithm.name())]
    AlgorithmNotAvailable {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// More encoded than decoded bytes.
    #[error("pcluster of {plen} bytes for {llen} bytes of data")]
    Grows {
        /// Encoded bytes.
        plen: u64,
        /// Decoded bytes.
        llen: u64,
    },
    /// Fewer plain bytes than the extent has.
    #[error("plain pcluster of {plen} bytes for {llen} bytes of data")]
    PlainTooShort {
        /// Bytes of the pcluster.
        plen: u64,
        /// Bytes of the extent.
        llen: u64,
    },
    /// A pcluster lies beyond what block addresses of 48 bits reach.
    #[error("pcluster at byte {position} lies beyond 2^48 blocks")]
    BeyondAddresses {
        /// The byte position in the unified address space.
        position: u64,
    },
    /// A fragment in an image without a packed inode.
    #[error("fragment in an image without a packed inode")]
    NoPackedInode,
    /// The packed inode itself has a fragment.
    #[error("the packed inode has a fragment")]
    FragmentInPackedInode,
}

/// The error with inode and position in the file, where it did not say them.
pub(super) fn located(mut error: Error, nid: u64, offset: u64) -> Error {
    if let Error::Corrupt { place, .. } | Error::Unsupported { place, .. } | Error::Limit { place, .. } =
        &mut error
    {
        place.nid.get_or_insert(nid);
        place.extent.get_or_insert(offset);
    }
    error
}
