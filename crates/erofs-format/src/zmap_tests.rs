use core::mem::{offset_of, size_of};

use super::*;

#[test]
fn sizes_and_offsets_are_those_on_disk() {
    assert_eq!(size_of::<MapHeader>(), 8);
    assert_eq!(offset_of!(MapHeader, h_advise), 4);
    assert_eq!(offset_of!(MapHeader, h_algorithmtype), 6);
    assert_eq!(offset_of!(MapHeader, h_clusterbits), 7);
    assert_eq!(size_of::<LclusterIndex>(), 8);
    assert_eq!(offset_of!(LclusterIndex, di_clusterofs), 2);
    assert_eq!(size_of::<ExtentRecord>(), 32);
    assert_eq!(offset_of!(ExtentRecord, lstart_hi), 16);
}

#[test]
fn the_unions_of_the_map_header_are_read_at_their_places() {
    let header = MapHeader::read_from_bytes(&[1, 2, 3, 4, 0x2A, 0, 6, 0x85]).unwrap();
    assert_eq!(header.fragmentoff(), 0x0403_0201);
    assert_eq!(header.idata_size(), 0x0403);
    assert_eq!(header.extents(), 0x8506_0403_0201);
    assert_eq!(header.fragment_inode(), Some(0x0506_002A_0403_0201));
    let header = MapHeader { h_clusterbits: 5, ..header };
    assert_eq!(header.fragment_inode(), None);
}

#[test]
fn extent_record_sizes_are_4_to_32() {
    for (code, size) in [(0, 4), (1, 8), (2, 16), (3, 32)] {
        assert_eq!(Advise::from_bits_truncate(1 | code << 1).extent_record_size(), size);
    }
}

#[test]
fn extent_lengths_are_taken_apart() {
    let length = ExtentLength::from(0x4800_1234);
    assert_eq!(length, ExtentLength { length: 0x1234, partial: true, format: 4 });
}

#[test]
fn full_indexes_tell_their_deltas() {
    let index = LclusterIndex::read_from_bytes(&[2, 0, 0, 0, 1, 8, 7, 0]).unwrap();
    assert_eq!(index.lcluster_type(), LclusterType::Nonhead);
    assert_eq!(index.delta(), [LI_D0_CBLKCNT | 1, 7]);
}

#[test]
fn entries_of_both_packs_are_found_at_their_bits() {
    // Entry i holds offset 100 + i and, in turn, all four types.
    for pack in [CompactPack::FourByte, CompactPack::TwoByte] {
        let mut bytes = [0_u8; 32];
        for index in 0..pack.entries() {
            let value = (100 + index) | (index % 4) << 12;
            for bit in 0..pack.entry_bits() {
                let position = index * pack.entry_bits() + bit;
                bytes[position as usize / 8] |= (((value >> bit) & 1) as u8) << (position % 8);
            }
        }
        bytes[pack.size() - 4..pack.size()].copy_from_slice(&77_u32.to_le_bytes());
        let bytes = &bytes[..pack.size()];
        for index in 0..pack.entries() {
            let expected = (100 + index, LclusterType::from_low_bits(index % 4));
            assert_eq!(pack.entry(bytes, 12, index), Some(expected), "{pack:?} {index}");
        }
        assert_eq!(pack.base(bytes), Some(77));
        assert_eq!(pack.entry(bytes, 12, pack.entries()), None);
        assert_eq!(pack.entry(&bytes[1..], 12, 0), None);
    }
    assert_eq!(CompactPack::TwoByte.entry(&[0; 32], 13, 0), None, "13 + 2 bits are no 14");
}

#[test]
fn compact_layouts_start_with_short_packs_up_to_a_multiple_of_32() {
    // 8 past a multiple of 32: 6 entries of 4 bytes, then 32 of 2, then 3 of 4.
    let layout = CompactLayout::new(40, 41, true);
    let at = |lcn| layout.locate(lcn).map(|place| (place.pack, place.offset, place.index));
    assert_eq!(at(0), Some((CompactPack::FourByte, 40, 0)));
    assert_eq!(at(5), Some((CompactPack::FourByte, 56, 1)));
    assert_eq!(at(6), Some((CompactPack::TwoByte, 64, 0)));
    assert_eq!(at(37), Some((CompactPack::TwoByte, 96, 15)));
    assert_eq!(at(38), Some((CompactPack::FourByte, 128, 0)));
    assert_eq!(at(40), Some((CompactPack::FourByte, 136, 0)));
    assert_eq!(at(41), None);
    assert_eq!(layout.end(), Some(144));
    assert_eq!(CompactLayout::new(40, 0, true).end(), Some(40));
    assert_eq!(CompactLayout::new(u64::MAX - 7, u64::MAX, true).locate(u64::MAX - 1), None);
}
