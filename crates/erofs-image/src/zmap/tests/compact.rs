use erofs_format::zmap::CompactPack;

use super::*;

const TWO_BYTE: u16 = 1;
const BIG: u16 = 6;
const NONHEAD: u16 = 2;
/// Says that the low bits are a size.
const COUNT: u32 = LI_D0_CBLKCNT as u32;

/// A pack of entries (type, low bits) and its base address.
fn pack(kind: CompactPack, entries: &[(u16, u32)], base: u32) -> Vec<u8> {
    let mut bytes = vec![0; kind.size()];
    let entries = entries.iter().chain(std::iter::repeat(&(PLAIN, 0))).take(kind.entries() as usize);
    for (index, (entry, low)) in (0..).zip(entries) {
        let value = low | u32::from(*entry) << LOBITS;
        for bit in 0..kind.entry_bits() {
            let at: u32 = index * kind.entry_bits() + bit;
            bytes[at as usize / 8] |= u8::try_from(value >> bit & 1).unwrap() << (at % 8);
        }
    }
    bytes[kind.size() - 4..].copy_from_slice(&base.to_le_bytes());
    bytes
}

/// Low bits of an entry for logical clusters of up to 4 KiB.
const LOBITS: u32 = 12;

fn fours(packs: &[([(u16, u32); 2], u32)]) -> Vec<u8> {
    packs.iter().flat_map(|(entries, base)| pack(CompactPack::FourByte, entries, *base)).collect()
}

fn compact(size: u64, advise: u16, index: Vec<u8>) -> Mapped {
    Mapped::new(DataLayout::CompressedCompact, size, advise, index)
}

#[test]
fn packs_of_two_count_addresses_from_their_base() {
    let index = fours(&[
        ([(HEAD1, 0), (HEAD1, 10)], 6),
        ([(NONHEAD, 1), (PLAIN, 20)], 8),
        ([(HEAD2, 10), (NONHEAD, 2)], u32::MAX),
        ([(NONHEAD, 2), (HEAD1, 0)], 19),
    ]);
    let mapped = compact(8 * 4096, 0, index).algorithms(0, 3);
    let at = |lcn: u64, clusterofs: u64| lcn * 4096 + clusterofs;
    let expected = [
        data(0, at(1, 10), 7 * 4096, 4096, LZ4),
        data(at(1, 10), at(3, 20) - at(1, 10), 8 * 4096, 4096, LZ4),
        // The NONHEAD before counts the head it belongs to only if that is in the pack.
        data(at(3, 20), at(4, 10) - at(3, 20), 9 * 4096, 4096, ZFormat::Shifted),
        // The base wraps around, as an address of 32 bits does.
        data(at(4, 10), at(7, 0) - at(4, 10), 0, 4096, ZSTD),
        data(at(7, 0), 4096, 20 * 4096, 4096, LZ4),
    ];
    assert_eq!(mapped.extents(), expected);
}

#[test]
fn packs_of_sixteen_lie_between_packs_of_two() {
    // 6 entries of 4 bytes up to a multiple of 32, then 16 of 2 bytes, then 4 bytes again.
    let mut index = fours(&[
        ([(HEAD1, 0), (HEAD1, 1)], 9),
        ([(HEAD1, 2), (HEAD1, 3)], 11),
        ([(HEAD1, 4), (HEAD1, 5)], 13),
    ]);
    let mut entries = vec![(HEAD1, 6)];
    entries.extend((1..15).map(|distance| (NONHEAD, distance)));
    // The last entry says how far it is to the next head.
    entries.push((NONHEAD, 2));
    index.extend(pack(CompactPack::TwoByte, &entries, 15));
    index.extend(fours(&[([(NONHEAD, 16), (HEAD1, 7)], 16)]));
    let mapped = compact(24 * 4096, TWO_BYTE, index);
    let extents = mapped.extents();
    let starts: Vec<_> = extents.iter().map(|extent| extent.la).collect();
    assert_eq!(starts, [0, 4097, 8194, 12291, 16388, 20485, 6 * 4096 + 6, 23 * 4096 + 7]);
    assert_eq!(extents[5], data(20485, 6 * 4096 + 6 - 20485, 15 * 4096, 4096, LZ4));
    assert_eq!(extents[6], data(6 * 4096 + 6, 17 * 4096 + 1, 16 * 4096, 4096, LZ4));
    assert_eq!(extents[7], data(23 * 4096 + 7, 4089, 17 * 4096, 4096, LZ4));
}

#[test]
fn big_pclusters_advance_the_address_by_their_size() {
    let mut entries = vec![(HEAD1, 0), (NONHEAD, COUNT | 3), (NONHEAD, 2), (NONHEAD, 3)];
    entries.extend([
        (HEAD1, 0),
        (HEAD2, 0),
        (NONHEAD, COUNT | 2),
        (NONHEAD, 2),
        (PLAIN, 0),
        (NONHEAD, COUNT),
    ]);
    entries.extend([
        (HEAD1, 0),
        (NONHEAD, COUNT | 5),
        (NONHEAD, 2),
        (NONHEAD, 3),
        (NONHEAD, 4),
        (NONHEAD, 2),
    ]);
    let mut index =
        fours(&[([(PLAIN, 0), (PLAIN, 0)], 1), ([(PLAIN, 0), (PLAIN, 0)], 3), ([(PLAIN, 0), (PLAIN, 0)], 5)]);
    index.extend(pack(CompactPack::TwoByte, &entries, 100));
    index.extend(fours(&[([(NONHEAD, 6), (HEAD1, 0)], 70)]));
    let mapped = compact(24 * 4096, TWO_BYTE | BIG, index);
    let extents = mapped.extents();
    let block = |lcn: u64| lcn * 4096;
    assert_eq!(extents[5], data(block(5), 4096, block(6), 4096, ZFormat::Shifted));
    assert_eq!(extents[6], data(block(6), block(4), block(100), 3 * 4096, LZ4));
    assert_eq!(extents[7], data(block(10), 4096, block(103), 4096, LZ4));
    assert_eq!(extents[8], data(block(11), block(3), block(104), 2 * 4096, LZ4));
    assert_eq!(extents[9], hole(block(14), block(2)));
    assert_eq!(extents[10], data(block(16), block(7), block(106), 5 * 4096, LZ4));
    assert_eq!(extents[11], data(block(23), block(1), block(70), 4096, LZ4));
}

#[test]
fn the_last_entry_of_a_pack_finds_its_head_by_the_entry_before() {
    // Behind the size of a big pcluster, and behind a head.
    let index = fours(&[
        ([(HEAD1, 0), (NONHEAD, COUNT | 2)], 7),
        ([(NONHEAD, 2), (NONHEAD, 1)], 0),
        ([(HEAD1, 0), (NONHEAD, COUNT | 1)], 30),
    ]);
    let extents = compact(6 * 4096, BIG, index).extents();
    assert_eq!(extents, [data(0, 4 * 4096, 7 * 4096, 8192, LZ4), data(4 * 4096, 8192, 30 * 4096, 4096, LZ4)]);
    let index = fours(&[([(HEAD1, 0), (HEAD1, 0)], 7), ([(NONHEAD, COUNT | 2), (NONHEAD, 1)], 0)]);
    let extents = compact(4 * 4096, BIG, index).extents();
    assert_eq!(extents[1], data(4096, 3 * 4096, 8 * 4096, 8192, LZ4));
    let index = fours(&[([(HEAD1, 0), (NONHEAD, 1)], 7), ([(HEAD1, 0), (HEAD1, 0)], 30)]);
    let extents = compact(4 * 4096, 0, index).extents();
    assert_eq!(extents[0], data(0, 8192, 8 * 4096, 4096, LZ4));
    let index = fours(&[([(HEAD1, 0), (NONHEAD, 1)], 7), ([(NONHEAD, COUNT | 1), (NONHEAD, 1)], 30)]);
    let mut mapped = compact(4 * 4096, BIG, index);
    assert_eq!(mapped.broken(3 * 4096), MapCorruption::NoBlockCount { lcn: 1 });
    mapped.header.h_advise = 0.into();
    assert_eq!(mapped.broken(2 * 4096), MapCorruption::UnexpectedBlockCount { lcn: 2 });
}

#[test]
fn distances_that_break_the_count_of_addresses_are_errors() {
    let index = fours(&[([(NONHEAD, 1), (HEAD1, 0)], 7), ([(NONHEAD, 1), (HEAD1, 0)], 7)]);
    let mapped = compact(4 * 4096, BIG, index);
    assert_eq!(mapped.broken(3 * 4096), MapCorruption::PackDistance { lcn: 2, distance: 1 });
}

#[test]
fn logical_clusters_larger_than_an_entry_are_not_read() {
    let mut mapped = compact(100 * 4096, TWO_BYTE, vec![1; 400]);
    mapped.header.h_clusterbits = 1;
    assert_eq!(mapped.unsupported(50 * 8192 - 1), Feature::CompactLclusterBits { found: 13 });
    mapped.header.h_clusterbits = 3;
    assert_eq!(mapped.broken(0), MapCorruption::NoEntry { lcn: 0 });
}

#[test]
fn logical_clusters_of_16_kib_fit_in_packs_of_two() {
    let entry = |kind: u32, low: u32| u16::try_from(kind << 14 | low).unwrap().to_le_bytes();
    let mut index = [entry(1, 0), entry(1, 12287)].concat();
    index.extend(6_u32.to_le_bytes());
    let mut mapped = compact(40_000, 0, [index.clone(), index].concat());
    mapped.header.h_clusterbits = 2;
    mapped.with(|map| {
        assert_eq!(map.at(0).unwrap(), data(0, 16384 + 12287, 7 * 4096, 4096, LZ4));
        assert_eq!(map.at(32767).unwrap(), data(28671, 4097, 8 * 4096, 4096, LZ4));
    });
}
