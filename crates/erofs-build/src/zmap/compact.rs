//! The compact index: entries of 16 or 14 bits in packs, with one block address for each pack.

use erofs_format::zmap::{
    CompactLayout, CompactPack, FULL_INDEX_START, LI_D0_CBLKCNT, LclusterType, MAP_HEADER_ALIGN,
};

use super::{Lcluster, Map, near};

/// Bits of an entry below its type, at least.
const MIN_LOBITS: u32 = LI_D0_CBLKCNT.ilog2() + 1;

/// Where the index starts behind inode and xattrs of `body` bytes: right behind the map header.
pub(super) fn base(body: u64) -> u64 {
    body.next_multiple_of(MAP_HEADER_ALIGN) + FULL_INDEX_START / 2
}

/// Whether there is a pack of the shorter entries, for which `total` entries from `base` on must be enough, and
/// blocks small enough.
pub(super) fn has_short_entries(total: u64, base: u64, block_bits: u32) -> bool {
    block_bits <= CompactPack::TwoByte.max_lclusterbits()
        && CompactLayout::new(base, total, true) != CompactLayout::new(base, total, false)
}

/// Appends the index to `out`, in which the inode starts at `start`.
pub(super) fn put(map: &Map<'_>, layout: &CompactLayout, start: usize, out: &mut Vec<u8>) {
    let lobits = map.block_bits.max(MIN_LOBITS);
    let mut entries = map.lclusters().enumerate().peekable();
    let mut pack = Vec::new();
    let mut head_block = 0;
    while let Some((lcn, _)) = entries.peek() {
        let Some(place) = layout.locate(*lcn as u64) else { return };
        let last = lcn + place.pack.entries() as usize;
        pack.clear();
        while let Some((_, entry)) = entries.next_if(|(lcn, _)| *lcn < last) {
            pack.push(entry);
        }
        debug_assert_eq!(out.len() - start, usize::try_from(place.offset).unwrap_or(0));
        put_pack(place.pack, &pack, lobits, map.is_big, &mut head_block, out);
    }
}

/// Appends a pack. Entries that are missing at the end of the last one are as good as zeros.
fn put_pack(
    pack: CompactPack,
    entries: &[Lcluster],
    lobits: u32,
    is_big: bool,
    head_block: &mut u64,
    out: &mut Vec<u8>,
) {
    let mut bytes = [0; CompactPack::TwoByte.size()];
    // What a reader adds to the pack's address for its first head: the blocks of a cluster whose head is in
    // the pack before but whose size is said in this one; or 1, if all clusters are single blocks.
    let mut before = u32::from(!is_big);
    let mut first = None;
    for (index, entry) in entries.iter().enumerate() {
        let (low, kind) = match *entry {
            Lcluster::Head { kind, clusterofs, block, .. } => {
                first.get_or_insert(block);
                (u32::from(clusterofs), kind)
            }
            Lcluster::Nonhead { back, on, blocks } => {
                let low = match blocks {
                    Some(blocks) => {
                        if first.is_none() {
                            before += blocks;
                        }
                        u32::from(LI_D0_CBLKCNT) | blocks
                    }
                    // The last one tells the way on instead of the way back.
                    None if index + 1 == pack.entries() as usize => near(on),
                    None => near(back),
                };
                (low, LclusterType::Nonhead)
            }
        };
        let position = index * pack.entry_bits() as usize;
        let value = (low | (kind as u32) << lobits) << (position % 8);
        for (byte, bits) in bytes[position / 8..].iter_mut().zip(value.to_le_bytes()) {
            *byte |= bits;
        }
    }
    *head_block = first.unwrap_or(*head_block);
    // Only maps whose addresses have 32 bits are compact.
    let base = u32::try_from(*head_block).unwrap_or(u32::MAX).wrapping_sub(before);
    let size = pack.size();
    bytes[size - 4..size].copy_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&bytes[..size]);
}
