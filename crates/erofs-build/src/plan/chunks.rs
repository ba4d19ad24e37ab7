//! Files with holes: which chunk size, which chunks are stored.

use crate::tree::{Regular, Segment};

/// More entries than this take a larger chunk, so that no map takes more than 64 MiB (128 with 48-bit addresses).
pub(crate) const MAX_CHUNKS: u64 = 1 << 24;

/// The largest chunk size over the block size that the format can say, as a power of two.
const MAX_BITS: u8 = 31;

/// The chunks of a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChunkMap {
    pub(crate) bits: u8,
    /// Entries of the map, holes included.
    pub(crate) entries: u64,
    pub(crate) entry_size: u64,
    pub(crate) stored_blocks: u64,
}

impl ChunkMap {
    /// The map that takes the least room; `None` if the file has no holes or saves nothing by them.
    pub(crate) fn choose(file: &Regular, block_size: u64, wide: bool) -> Option<Self> {
        let segments = file.data.as_deref()?;
        let entry_size = if wide { 8 } else { 4 };
        let dense = file.size.div_ceil(block_size);
        let mut best: Option<(u64, Self)> = None;
        for bits in 0..=MAX_BITS {
            let Some(chunk) = block_size.checked_mul(1 << bits) else { break };
            let entries = file.size.div_ceil(chunk);
            if entries > MAX_CHUNKS {
                continue;
            }
            let stored_blocks: u64 = runs(segments, chunk)
                .map(|(first, end)| blocks_of(first, end, chunk, file.size, block_size))
                .sum();
            let cost = stored_blocks.saturating_mul(block_size).saturating_add(entries * entry_size);
            // Of equals the larger chunk is the better: its map is read in fewer steps.
            if best.as_ref().is_none_or(|(least, _)| cost <= *least) {
                best = Some((cost, Self { bits, entries, entry_size, stored_blocks }));
            }
            if entries <= 1 {
                break;
            }
        }
        best.filter(|(cost, _)| *cost < dense.saturating_mul(block_size)).map(|(_, map)| map)
    }
}

/// The runs of chunks that hold data, as (first, end) in chunks.
fn runs(segments: &[Segment], chunk: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = segments.iter().peekable();
    std::iter::from_fn(move || {
        let segment = rest.next()?;
        let first = segment.start / chunk;
        let mut end = segment.end.div_ceil(chunk);
        while let Some(next) = rest.next_if(|next| next.start / chunk <= end) {
            end = end.max(next.end.div_ceil(chunk));
        }
        Some((first, end))
    })
}

fn blocks_of(first: u64, end: u64, chunk: u64, size: u64, block_size: u64) -> u64 {
    let end = end.saturating_mul(chunk).min(size);
    end.saturating_sub(first * chunk).div_ceil(block_size)
}

/// The runs of chunks that are stored one after the other, as (first chunk, end chunk, blocks).
pub(crate) fn stored_chunks(
    file: &Regular,
    block_size: u64,
    bits: u8,
) -> impl Iterator<Item = (u64, u64, u64)> {
    let chunk = block_size.saturating_mul(1 << bits);
    let segments = file.data.as_deref().unwrap_or_default();
    let size = file.size;
    runs(segments, chunk)
        .map(move |(first, end)| (first, end, blocks_of(first, end, chunk, size, block_size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Key;

    fn file(size: u64, parts: &[(u64, u64)]) -> Regular {
        let data = parts.iter().map(|&(start, end)| Segment { start, end }).collect();
        Regular { size, data: Some(data), key: Key::Number(0) }
    }

    #[test]
    fn a_hole_of_everything_takes_one_entry_and_no_block() {
        let map = ChunkMap::choose(&file(1 << 40, &[]), 4096, false).unwrap();
        assert_eq!((map.entries, map.stored_blocks), (1, 0));
    }

    #[test]
    fn chunks_are_as_large_as_the_holes_allow() {
        let map =
            ChunkMap::choose(&file(1 << 20, &[(0, 1 << 16), (1 << 19, (1 << 19) + (1 << 16))]), 4096, false);
        let map = map.unwrap();
        assert_eq!((map.bits, map.entries, map.stored_blocks), (4, 16, 32));
    }

    #[test]
    fn a_file_that_saves_nothing_is_stored_flat() {
        assert_eq!(ChunkMap::choose(&file(8192, &[(0, 8192)]), 4096, false), None);
        assert_eq!(
            ChunkMap::choose(&file(8193, &[(0, 4096), (8192, 8193)]), 4096, false).map(|map| map.bits),
            Some(0)
        );
    }

    #[test]
    fn the_last_chunk_ends_with_the_file() {
        let file = file(20_000, &[(16_384, 20_000)]);
        let runs: Vec<_> = stored_chunks(&file, 4096, 2).collect();
        assert_eq!(runs, [(1, 2, 1)]);
    }

    #[test]
    fn no_map_grows_without_bound() {
        let parts: Vec<_> = (0..1000).map(|nth| (nth << 33, (nth << 33) + 4096)).collect();
        let map = ChunkMap::choose(&file(1000 << 33, &parts), 4096, false).unwrap();
        assert!(map.entries <= MAX_CHUNKS);
    }
}
