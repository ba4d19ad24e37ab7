//! Compressed inodes put together by hand: LZ4 blocks, indexes, and files of several extents.

use erofs_format::inode::DataLayout;
use erofs_format::zmap::{Advise, FRAGMENT_INODE, LclusterIndex, LclusterType, MapHeader};
use erofs_format::{FeatureIncompat, compression::Algorithms};
use zerocopy::IntoBytes;

use super::{Builder, REG, compact, pattern};

/// An LZ4 block: literals, a match that repeats what lies `distance` back, literals; of 0 bytes
/// to repeat, no match and nothing behind it.
pub(crate) fn lz4(first: &[u8], distance: usize, repeat: usize, last: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    if repeat == 0 {
        sequence(&mut block, first, None);
        return block;
    }
    sequence(&mut block, first, repeat.checked_sub(4));
    block.extend(u16::try_from(distance).unwrap().to_le_bytes());
    if let Some(more) = repeat.checked_sub(4 + 15) {
        length(&mut block, more);
    }
    sequence(&mut block, last, None);
    block
}

/// What [`lz4`] decodes to.
pub(crate) fn unlz4(first: &[u8], distance: usize, repeat: usize, last: &[u8]) -> Vec<u8> {
    let mut data = first.to_vec();
    for _ in 0..repeat {
        data.push(data[data.len() - distance]);
    }
    data.extend(last);
    data
}

fn sequence(block: &mut Vec<u8>, literals: &[u8], repeat: Option<usize>) {
    let nibble = |count: usize| u8::try_from(count.min(15)).unwrap();
    block.push(nibble(literals.len()) << 4 | nibble(repeat.unwrap_or(0)));
    if let Some(more) = literals.len().checked_sub(15) {
        length(block, more);
    }
    block.extend(literals);
}

fn length(block: &mut Vec<u8>, mut more: usize) {
    while more >= 255 {
        block.push(255);
        more -= 255;
    }
    block.push(u8::try_from(more).unwrap());
}

/// `bytes` at the end of `size` bytes.
pub(crate) fn right_aligned(bytes: &[u8], size: usize) -> Vec<u8> {
    [vec![0; size - bytes.len()], bytes.to_vec()].concat()
}

/// The map of an inode: header, full index, what lies behind it.
#[derive(Clone, Default)]
pub(crate) struct Map {
    pub(crate) header: MapHeader,
    pub(crate) entries: Vec<LclusterIndex>,
    pub(crate) tail: Vec<u8>,
}

impl Map {
    pub(crate) fn advise(mut self, bits: Advise) -> Self {
        self.header.h_advise = bits.bits().into();
        self
    }

    /// The whole file lies in the packed inode.
    pub(crate) fn fragment(offset: u64) -> Self {
        let bytes = (offset | 1 << 63).to_le_bytes();
        let mut map = Self::default();
        map.header.as_mut_bytes().copy_from_slice(&bytes);
        assert_eq!(map.header.h_clusterbits & FRAGMENT_INODE, FRAGMENT_INODE);
        map
    }

    pub(crate) fn head(self, kind: LclusterType, clusterofs: u16, block: u32) -> Self {
        self.head_with(kind, 0, clusterofs, block)
    }

    pub(crate) fn head_with(mut self, kind: LclusterType, flags: u16, clusterofs: u16, block: u32) -> Self {
        self.entries.push(LclusterIndex {
            di_advise: (kind as u16 | flags).into(),
            di_clusterofs: clusterofs.into(),
            di_u: block.into(),
        });
        self
    }

    pub(crate) fn next(mut self, back: u16, ahead: u16) -> Self {
        self.entries.push(LclusterIndex {
            di_advise: (LclusterType::Nonhead as u16).into(),
            di_u: (u32::from(ahead) << 16 | u32::from(back)).into(),
            ..LclusterIndex::default()
        });
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.header.as_bytes(), &[0; 8], self.entries.as_bytes(), &self.tail].concat()
    }
}

impl Builder {
    /// With LZ4 as all images have it today.
    pub(crate) fn lz4(&mut self) -> &mut Self {
        self.incompat(FeatureIncompat::LZ4_0PADDING)
    }

    /// With these algorithms and their records.
    pub(crate) fn algorithms(&mut self, algorithms: Algorithms) -> &mut Self {
        self.lz4().incompat(FeatureIncompat::COMPR_CFGS);
        self.sb.u1 = algorithms.bits().into();
        let mut records = Vec::new();
        for (bit, size) in [(0, 14_u16), (1, 14), (2, 6), (3, 6)] {
            if algorithms.bits() & 1 << bit != 0 {
                let mut record = vec![0; usize::from(size)];
                match bit {
                    1 => record[..4].copy_from_slice(&(8_u32 << 20).to_le_bytes()),
                    // Windows of 64 KiB.
                    3 => record[1] = 6,
                    _ => (),
                }
                records.extend(size.to_le_bytes());
                records.extend(record);
            }
        }
        self.put(1024 + 128, &records)
    }

    /// A compressed regular file.
    pub(crate) fn put_file(&mut self, nid: u64, size: usize, map: &Map) -> &mut Self {
        self.put_mapped(nid, REG, size, map)
    }

    pub(crate) fn put_mapped(&mut self, nid: u64, mode: u16, size: usize, map: &Map) -> &mut Self {
        self.put_inode(nid, &compact(DataLayout::CompressedFull, mode, size as u64, 3));
        self.put(Self::at(nid + 1), &map.bytes())
    }

    /// The file of [`sample_data`]: inode `nid`, clusters in three blocks from `block` on.
    pub(crate) fn put_sample(&mut self, nid: u64, block: u32) -> &mut Self {
        let (a, b) = (sample_a(), sample_b());
        self.put_block(block.into(), &right_aligned(&lz4(&a.0, 500, a.1, &a.2), 4096));
        self.put_block(u64::from(block) + 1, &sample_data()[9192..12_788]);
        self.put_block(u64::from(block) + 2, &right_aligned(&lz4(&b.0, 8, b.1, &b.2), 4096));
        let map = Map::default()
            .head(LclusterType::Head1, 0, block)
            .next(1, 1)
            .head(LclusterType::Plain, 1000, block + 1)
            .head(LclusterType::Head1, 500, block + 2)
            .next(1, 1);
        self.put_file(nid, 17_000, &map)
    }
}

/// Where the extents of the sample start, and its end.
pub(crate) const SAMPLE: [u64; 4] = [0, 9192, 12_788, 17_000];

fn sample_a() -> (Vec<u8>, usize, Vec<u8>) {
    (pattern(3000), 6000, pattern(192))
}

fn sample_b() -> (Vec<u8>, usize, Vec<u8>) {
    (pattern(1000)[900..].to_vec(), 4000, pattern(112))
}

/// Three extents: a cluster, plain data that starts within an lcluster, a cluster.
pub(crate) fn sample_data() -> Vec<u8> {
    let (a, b) = (sample_a(), sample_b());
    let plain = pattern(5000)[5000 - 3596..].to_vec();
    [unlz4(&a.0, 500, a.1, &a.2), plain, unlz4(&b.0, 8, b.1, &b.2)].concat()
}
