//! The full index: 8 bytes for each block of the file.

use erofs_format::zmap::{LI_D0_CBLKCNT, LI_PARTIAL_REF, LclusterIndex, LclusterType};
use zerocopy::IntoBytes;

use super::{Lcluster, Map, near};

/// Appends the index, and the 8 bytes before it that mean nothing.
pub(super) fn put(map: &Map<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 8]);
    for lcluster in map.lclusters() {
        let entry = match lcluster {
            Lcluster::Head { kind, clusterofs, block, is_partial } => LclusterIndex {
                di_advise: (kind as u16 | if is_partial { LI_PARTIAL_REF } else { 0 }).into(),
                di_clusterofs: clusterofs.into(),
                di_u: u32::try_from(block).unwrap_or(u32::MAX).into(),
            },
            Lcluster::Nonhead { back, on, blocks } => {
                let back = blocks.map_or(near(back), |blocks| u32::from(LI_D0_CBLKCNT) | blocks);
                LclusterIndex {
                    di_advise: (LclusterType::Nonhead as u16).into(),
                    di_clusterofs: 0.into(),
                    di_u: (back | near(on) << 16).into(),
                }
            }
        };
        out.extend_from_slice(entry.as_bytes());
    }
}
