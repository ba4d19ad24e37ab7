//! Maps are read back by the reader, which has its rules from Linux and not from here.

use std::sync::Arc;

use erofs_format::compression::Algorithm;
use erofs_format::dirent::Dirent;
use erofs_format::features::FeatureIncompat;
use erofs_format::inode::{DataLayout, InodeExtended, InodeFormat};
use erofs_format::superblock::{SUPER_MAGIC_V1, SUPER_OFFSET, SuperBlock};
use erofs_image::{Image, MemorySource, OpenOptions, Place};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{Extent, Map, Tail};
use crate::compress::{Compression, CompressionAlgorithm};

/// Where the root is, and the packed inode, in bytes.
const ROOT_AT: u64 = 32 << 10;
const PACKED_AT: u64 = ROOT_AT + 128;

/// The first block of clusters, behind any map of these tests.
const FIRST_BLOCK: u64 = 1 << 20;

/// An image with one file, whose map this is, and `xattrs` bytes between the inode and it.
struct Made {
    bytes: Vec<u8>,
    /// Where the inode is, and where what is behind its map.
    at: u64,
    behind: u64,
}

impl Made {
    fn new(map: &Map<'_>, slot: u64, xattrs: u64) -> Self {
        let body = 64 + xattrs;
        let core = map.core(body);
        let (tail, block_size) = (tail_of(map), 1 << map.block_bits);
        let fits = |at: &u64| (at + core) % block_size + tail <= block_size;
        let start = ROOT_AT + 1024 + 32 * slot;
        let at = (start..).step_by(32).find(fits).expect("a place where the tail lies in one block");
        let how = Compression { cluster: 64 << 10, ..Compression::new(CompressionAlgorithm::Zstd) };
        let incompat = FeatureIncompat::LZ4_0PADDING
            | FeatureIncompat::COMPR_CFGS
            | FeatureIncompat::ZTAILPACKING
            | FeatureIncompat::FRAGMENTS
            | FeatureIncompat::BIT48;
        let superblock = SuperBlock {
            magic: SUPER_MAGIC_V1.into(),
            blkszbits: u8::try_from(map.block_bits).unwrap(),
            rb: u16::try_from(ROOT_AT / 32).unwrap().into(),
            feature_incompat: incompat.bits().into(),
            u1: (1 << Algorithm::Zstd as u16).into(),
            packed_nid: (PACKED_AT / 32).into(),
            ..SuperBlock::default()
        };
        let mut bytes = vec![0; usize::try_from(at).unwrap()];
        put(&mut bytes, SUPER_OFFSET, superblock.as_bytes());
        put(&mut bytes, SUPER_OFFSET + 128, &how.record(4096, false));
        let root = inode(DataLayout::FlatInline, 0o040_755, 27);
        put(&mut bytes, ROOT_AT, root.as_bytes());
        for (nth, (nameoff, name)) in [(24, &b"."[..]), (25, b"..")].into_iter().enumerate() {
            let entry =
                Dirent { nid: (ROOT_AT / 32).into(), nameoff: nameoff.into(), file_type: 2, reserved: 0 };
            put(&mut bytes, ROOT_AT + 64 + 12 * nth as u64, entry.as_bytes());
            put(&mut bytes, ROOT_AT + 64 + u64::from(nameoff), name);
        }
        // All its blocks are where the image ends, and that is all that is looked at.
        let packed = inode(DataLayout::FlatPlain, 0o100_644, 1 << 50);
        put(&mut bytes, PACKED_AT, packed.as_bytes());

        let mut file = inode(map.layout(), 0o100_644, map.size());
        file.i_xattr_icount =
            u16::try_from(if xattrs == 0 { 0 } else { (xattrs - 12) / 4 + 1 }).unwrap().into();
        let start = bytes.len();
        bytes.extend_from_slice(file.as_bytes());
        bytes.resize(start + usize::try_from(body).unwrap(), 0);
        map.put(start, &mut bytes);
        assert_eq!((bytes.len() - start) as u64, core, "the size that was told before");
        let behind = bytes.len() as u64;
        bytes.resize(bytes.len() + usize::try_from(tail).unwrap(), 0xEE);
        Self { bytes, at, behind }
    }

    fn read_back(&self) -> Vec<(u64, u64, Place)> {
        let mut options = OpenOptions::default();
        options.limits.extents = u64::MAX;
        let image = Image::open(Arc::new(MemorySource::new(self.bytes.clone())), options).unwrap();
        let inode = image.inode(self.at / 32).unwrap();
        image.extents(&inode).map(|run| run.map(|run| (run.logical, run.len, run.place)).unwrap()).collect()
    }
}

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    let at = usize::try_from(at).unwrap();
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn inode(layout: DataLayout, mode: u16, size: u64) -> InodeExtended {
    InodeExtended {
        i_format: u16::from(InodeFormat { extended: true, layout, bit_4: false }).into(),
        i_mode: mode.into(),
        i_size: size.into(),
        i_nlink: 1.into(),
        ..InodeExtended::default()
    }
}

fn tail_of(map: &Map<'_>) -> u64 {
    match map.tail {
        Tail::Inline { plen, .. } => plen.into(),
        _ => 0,
    }
}

fn expected(map: &Map<'_>, behind: u64) -> Vec<(u64, u64, Place)> {
    let mut at = 0;
    let mut runs = Vec::new();
    let mut run = |llen, place| {
        runs.push((at, llen, place));
        at += llen;
    };
    let encoded = |offset, len| Place::Encoded { blob: 0, offset, len, algorithm: Some(map.algorithm) };
    for extent in map.extents {
        let place = match extent {
            Extent { plen: 0, .. } => Place::Hole,
            Extent { is_coded: true, .. } => encoded(extent.at, extent.plen.into()),
            _ => Place::Raw { blob: 0, offset: extent.at },
        };
        run(extent.llen, place);
    }
    match map.tail {
        Tail::Nothing => {}
        Tail::Fragment { llen, offset } => {
            run(llen, Place::Inside { nid: PACKED_AT / 32, offset, encoded: None });
        }
        Tail::Inline { llen, plen, is_coded: true } => run(llen, encoded(behind, plen.into())),
        Tail::Inline { llen, .. } => run(llen, Place::Raw { blob: 0, offset: behind }),
    }
    runs
}

fn check(map: &Map<'_>, slot: u64, xattrs: u64) {
    let made = Made::new(map, slot, xattrs);
    assert_eq!(made.read_back(), expected(map, made.behind), "{map:?}");
}

/// Extents one after the other from [`FIRST_BLOCK`] on; of each its bytes, and the blocks of its cluster or 0 if
/// it is plain.
fn row(parts: &[(u64, u32)], block_bits: u32) -> Vec<Extent> {
    let mut at = FIRST_BLOCK << block_bits;
    let extent = |&(llen, blocks): &(u64, u32)| {
        let plen = blocks.max(1) << block_bits;
        at += u64::from(plen);
        Extent { llen, is_coded: blocks > 0, at: at - u64::from(plen), plen, is_partial: false }
    };
    parts.iter().map(extent).collect()
}

fn map(extents: &[Extent], tail: Tail, block_bits: u32) -> Map<'_> {
    let is_big = extents.iter().any(|extent| extent.plen >> block_bits > 1);
    Map { extents, tail, algorithm: Algorithm::Zstd, is_big, is_dense: false, block_bits }
}

/// Checks a map as a compact one, and as a full one by moving its last cluster away.
fn check_both(parts: &[(u64, u32)], tail: Tail, block_bits: u32) {
    let mut extents = row(parts, block_bits);
    for slot in 0..4 {
        let compact = map(&extents, tail, block_bits);
        assert_eq!(compact.layout(), DataLayout::CompressedCompact);
        check(&compact, slot, 0);
        check(&Map { is_big: true, ..compact }, slot, 0);
    }
    if let (true, Some(last)) = (parts.len() > 1, extents.last_mut()) {
        last.at += 5 << block_bits;
        let full = map(&extents, tail, block_bits);
        assert_eq!(full.layout(), DataLayout::CompressedFull);
        check(&full, 0, 0);
        check(&Map { is_big: true, ..full }, 0, 0);
    }
}

const FRAGMENT: Tail = Tail::Fragment { llen: 777, offset: 123_456 };
const INLINE: Tail = Tail::Inline { llen: 777, plen: 99, is_coded: true };
const INLINE_PLAIN: Tail = Tail::Inline { llen: 99, plen: 99, is_coded: false };

#[test]
fn a_file_of_one_cluster_is_found_whatever_its_size() {
    for bits in [9, 12, 14] {
        let block = 1 << bits;
        for llen in [1, block - 1, block, block + 1, 2 * block, 17 * block + 3, 40 * block] {
            check_both(&[(llen, 1)], Tail::Nothing, bits);
        }
        for llen in [1, block - 1, block] {
            check_both(&[(llen, 0)], Tail::Nothing, bits);
        }
    }
}

#[test]
fn clusters_may_end_in_the_first_and_in_the_last_byte_of_a_block() {
    for tail in [Tail::Nothing, FRAGMENT, INLINE, INLINE_PLAIN] {
        for first in [4096, 4097, 8191, 8192, 8193] {
            check_both(&[(first, 1), (8192, 1), (4096, 0), (4096, 0), (5000, 1)], tail, 12);
        }
    }
}

#[test]
fn single_blocks_behind_large_clusters_have_the_right_addresses() {
    for tail in [Tail::Nothing, FRAGMENT, INLINE] {
        let mut parts = vec![(300_001, 16), (4096, 0), (4096, 0), (200_000, 16), (9000, 1), (4097, 1)];
        // Each time the packs begin with another entry.
        for _ in 0..20 {
            check_both(&parts, tail, 12);
            parts.insert(0, (4096, 0));
        }
    }
}

#[test]
fn extents_longer_than_an_entry_can_say_are_found_from_their_ends() {
    for llen in [2046 * 512, 2047 * 512, 2048 * 512, 2049 * 512, 5000 * 512, 12 << 20] {
        for tail in [Tail::Nothing, FRAGMENT, INLINE] {
            check_both(&[(700, 1), (llen, 9), (5_000, 3)], tail, 9);
        }
    }
}

#[test]
fn a_fragment_may_lie_far_in_the_packed_inode() {
    let extents = row(&[(100_000, 3)], 12);
    let tail = Tail::Fragment { llen: 5, offset: 0x12_3456_789A };
    let far = map(&extents, tail, 12);
    assert_eq!(far.layout(), DataLayout::CompressedFull);
    check(&far, 0, 0);
    check(&map(&[], tail, 12), 0, 0);
    check(&map(&[], FRAGMENT, 12), 3, 16);
}

#[test]
fn a_file_may_lie_beside_its_inode_as_a_whole() {
    for bits in [9, 12, 14] {
        check_both(&[], INLINE, bits);
        check_both(&[], INLINE_PLAIN, bits);
    }
}

/// Extents as the packer makes them: in each part what it holds, whether it is encoded, and the gap before it.
fn any_extents(bits: u32, is_big: bool, gaps: bool) -> impl Strategy<Value = Vec<Extent>> {
    let block = 1u64 << bits;
    let lengths = prop_oneof![
        4 => block + 1..8 * block,
        2 => (1..20u64).prop_map(move |blocks| blocks * block + block),
        1 => block + 1..60 * block,
        1 => (2040 * 512 / block + 1) * block..(2100 * 512 / block + 2) * block,
    ];
    let part = (lengths, any::<bool>(), any::<u16>(), 0..3u64);
    (prop::collection::vec(part, 0..40), FIRST_BLOCK..u64::from(u32::MAX / 2)).prop_map(
        move |(parts, first)| {
            let mut at = first;
            let extent = |(llen, is_coded, share, gap): (u64, bool, u16, u64)| {
                let llen = if is_coded { llen } else { block };
                let most = if is_coded && is_big { llen.div_ceil(block) - 1 } else { 1 };
                let most = most.clamp(1, 1 + (1 << 20) / block / 2).min(2000);
                let blocks = 1 + u32::from(share) % u32::try_from(most).unwrap();
                let gap = if gaps { gap } else { 0 };
                at += gap;
                let is_partial = gap == 2;
                let start = at;
                at += u64::from(blocks);
                Extent { llen, is_coded, at: start << bits, plen: blocks << bits, is_partial }
            };
            parts.into_iter().map(extent).collect()
        },
    )
}

fn any_tail() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::Nothing),
        (1..100_000u64, 0..1u64 << 34).prop_map(|(llen, offset)| Tail::Fragment { llen, offset }),
        (1..2000u64, 1..200u16).prop_map(|(llen, plen)| Tail::Inline { llen, plen, is_coded: true }),
        (1..200u16).prop_map(|plen| Tail::Inline { llen: plen.into(), plen, is_coded: false }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_an_index_says_is_what_was_put_in(
        (bits, is_big, extents) in (9..=14u32, any::<bool>(), any::<bool>()).prop_flat_map(|(bits, is_big, gaps)| {
            (Just(bits), Just(is_big), any_extents(bits, is_big, gaps))
        }),
        cut in 0..5000u64,
        tail in any_tail(),
        slot in 0..8u64,
        xattrs in prop_oneof![Just(0u64), (4..40u64).prop_map(|words| words * 4)],
    ) {
        let mut extents = extents;
        if let (Tail::Nothing, Some(last)) = (tail, extents.last_mut()) {
            // The last extent may be of any length, but its cluster is still smaller, by blocks.
            last.llen = last.llen.saturating_sub(cut).max(1);
            let most = u32::try_from(last.llen.div_ceil(1 << bits)).unwrap().saturating_sub(1).max(1) << bits;
            last.plen = last.plen.min(most);
        }
        let map = Map { is_big, ..map(&extents, tail, bits) };
        if map.size() > 0 {
            check(&map, slot, xattrs);
        }
    }

    #[test]
    fn what_records_say_is_what_was_put_in(
        bits in 9..=14u32,
        (first, parts) in any_dense(),
        tail in prop_oneof![
            Just(Tail::Nothing),
            (1..100_000u64, 0..1u64 << 40).prop_map(|(llen, offset)| Tail::Fragment { llen, offset }),
        ],
        slot in 0..8u64,
        xattrs in prop_oneof![Just(0u64), (4..40u64).prop_map(|words| words * 4)],
    ) {
        let extents = dense(first, &parts);
        let map = Map { is_dense: true, ..map(&extents, tail, bits) };
        if map.size() > 0 {
            check(&map, slot, xattrs);
        }
    }
}

/// Extents of any length anywhere from a byte on: each its bytes, its cluster's, the gap before it, and whether it
/// is partial. A cluster as long as its extent is plain, one of 0 bytes a hole.
type Dense = (u64, u32, u64, bool);

fn dense(first: u64, parts: &[Dense]) -> Vec<Extent> {
    let mut at = first;
    let extent = |&(llen, plen, gap, is_partial): &Dense| {
        at += gap + u64::from(plen);
        let at = at - u64::from(plen);
        Extent { llen, is_coded: u64::from(plen) < llen, at, plen, is_partial }
    };
    parts.iter().map(extent).collect()
}

fn any_dense() -> impl Strategy<Value = (u64, Vec<Dense>)> {
    let cluster = prop_oneof![
        (2..12u64 << 20, any::<u32>(), any::<bool>()).prop_map(|(llen, share, is_partial)| {
            let most = u32::try_from(llen - 1).unwrap().min(1 << 20);
            (llen, 1 + share % most, is_partial)
        }),
        (1..1u32 << 20).prop_map(|plen| (plen.into(), plen, false)),
        (1..1u64 << 33).prop_map(|llen| (llen, 0, false)),
    ];
    let gap = prop_oneof![Just(0), Just(0), 0..5000u64];
    let part = (cluster, gap).prop_map(|((llen, plen, is_partial), gap)| (llen, plen, gap, is_partial));
    let mixed = prop::collection::vec(part, 0..40);
    let equal = (9..20u32, 1..500u32, 0..20usize, 0..2u64)
        .prop_map(|(bits, plen, count, gap)| vec![(1 << bits, plen, gap, false); count]);
    (0..1u64 << 50, prop_oneof![mixed, equal], any::<bool>())
        .prop_map(|(first, parts, is_low)| (if is_low { first >> 20 } else { first }, parts))
}

fn dense_core(first: u64, parts: &[Dense], tail: Tail) -> u64 {
    let extents = dense(first, parts);
    let map = Map { is_dense: true, ..map(&extents, tail, 12) };
    check(&map, 0, 0);
    map.core(64) - 64 - 8
}

#[test]
fn records_are_as_short_as_they_can_be() {
    let one = [(70_000, 1000, 0, false)];
    // Far away it takes an address of 8 bytes.
    assert_eq!(dense_core(5_000_001, &one, Tail::Nothing), 8);
    assert_eq!(dense_core(5 << 32, &one, Tail::Nothing), 8 + 4);
    let equal = [(65_536, 1000, 0, false); 5];
    assert_eq!(dense_core(5_000_001, &equal, Tail::Nothing), 8 + 4 * 5);
    let gaps = [(65_536, 1000, 7, false); 5];
    assert_eq!(dense_core(5_000_001, &gaps, Tail::Nothing), 8 * 5);
    let fragment = Tail::Fragment { llen: 500, offset: 3 << 33 };
    assert_eq!(dense_core(5_000_001, &gaps, fragment), 8 * 6);
    // Records of 16 bytes start at a multiple of that.
    let any = [(65_535, 1000, 7, false); 5];
    assert_eq!(dense_core(5_000_001, &any, fragment), 8 + 16 * 6);
    let far = [(5 << 32, 0, 0, false), (5000, 200, 0, true), (1 << 20, 1 << 20, 0, false)];
    assert_eq!(dense_core(5_000_001, &far, Tail::Nothing), 24 + 32 * 3);
}
