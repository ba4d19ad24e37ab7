use erofs_format::FormatError;

use super::*;
use crate::limits::Limits;

const EXTENTS: u16 = 1;
const INTERLACED: u16 = 0x10;
const FRAGMENT: u16 = 0x20;
const PARTIAL: u32 = 1 << 27;

/// `plen` of this many bytes of the algorithm of this number.
fn coded(number: u32, length: u32) -> u32 {
    (number + 1) << 28 | length
}

/// Records of `4 << code` bytes, of (plen, pstart, lstart) each.
fn records(code: u16, size: u64, advise: u16, records: &[(u32, u64, u64)]) -> Mapped {
    let len = 4_usize << code;
    let start = (HEADER + 8).next_multiple_of(len as u64);
    let mut index = vec![0; usize::try_from(start - HEADER - 8).unwrap()];
    for (plen, pstart, lstart) in records {
        let mut record = plen.to_le_bytes().to_vec();
        record.extend(pstart.to_le_bytes());
        record.extend(lstart.to_le_bytes());
        record.resize(32, 0);
        index.extend(&record[..len]);
    }
    let mut mapped =
        Mapped::new(DataLayout::CompressedFull, size, EXTENTS | code << 1 | advise, index).with_packed();
    if code > 1 {
        mapped.header.h_u = u32::try_from(records.len()).unwrap().into();
    }
    mapped
}

#[test]
fn records_with_starts_are_searched() {
    for code in [2, 3] {
        let list = [
            (coded(0, 100), 5000, 0),
            (PARTIAL | coded(3, 300), 1 << 33, 1000),
            (0, 77, 1200),
            (5100, 9000, 2000),
            (coded(1, 10), 9, 7000),
        ];
        let expected = [
            data(0, 1000, 5000, 100, LZ4),
            partial(data(1000, 200, 1 << 33, 300, ZSTD)),
            hole(1200, 800),
            data(2000, 5000, 9000, 5100, ZFormat::Shifted),
            data(7000, 93, 9, 10, LZMA),
        ];
        let mapped = records(code, 7093, 0, &list);
        assert_eq!(mapped.extents(), expected, "{code}");
        for count in 1..list.len() {
            let fewer = records(code, 7093, 0, &list[..count]);
            assert_eq!(fewer.extents().len(), count);
        }
    }
    // Starts of 64 bits.
    let list = [(coded(3, 300), 0, 0), (0, 0, 400), (coded(3, 300), 4096, 1 << 40)];
    let extents = records(3, (1 << 40) + 400, 0, &list).extents();
    assert_eq!(extents[2], data(1 << 40, 400, 4096, 300, ZSTD));
}

#[test]
fn what_no_record_covers_is_a_hole() {
    let mapped = records(2, 3000, 0, &[(coded(0, 100), 5000, 1000)]);
    assert_eq!(mapped.extents(), [hole(0, 1000), data(1000, 2000, 5000, 100, LZ4)]);
    assert_eq!(records(2, 3000, 0, &[]).extents(), [hole(0, 3000)]);
}

#[test]
fn records_without_starts_are_one_for_each_logical_cluster() {
    let list = [(coded(0, 100), 5000, 0), (0, 0, 0), (coded(2, 4000), 0xffff_ffff, 0), (coded(0, 9), 1, 0)];
    let expected = [
        data(0, 4096, 5000, 100, LZ4),
        hole(4096, 4096),
        data(8192, 4096, 0xffff_ffff, 4000, ZFormat::Coded(Algorithm::Deflate)),
        data(12288, 5, 1, 9, LZ4),
    ];
    assert_eq!(records(1, 12293, 0, &list).extents(), expected);
    let mut mapped = records(1, 8193, 0, &list[..2]);
    mapped.header.h_clusterbits = 1;
    assert_eq!(mapped.extents(), [data(0, 8192, 5000, 100, LZ4), hole(8192, 1)]);
}

/// Records without addresses behind the address of the first.
fn addressless(size: u64, first: u64, plens: &[u32]) -> Mapped {
    let mut mapped = records(0, size, 0, &[]);
    mapped.index.extend(first.to_le_bytes());
    mapped.index.extend(plens.iter().flat_map(|plen| plen.to_le_bytes()));
    mapped
}

#[test]
fn records_without_addresses_run_on() {
    let plens = [coded(0, 100), coded(0, 50), 0, PARTIAL | coded(3, 4097), coded(3, 7)];
    let mapped = addressless(5 * 4096, 1 << 35, &plens);
    let expected = [
        data(0, 4096, 1 << 35, 100, LZ4),
        data(4096, 4096, (1 << 35) + 100, 50, LZ4),
        hole(8192, 4096),
        partial(data(12288, 4096, (1 << 35) + 150, 4097, ZSTD)),
        data(16384, 4096, (1 << 35) + 4247, 7, ZSTD),
    ];
    assert_eq!(mapped.extents(), expected);
    let mapped = addressless(2 * 4096, u64::MAX, &[coded(0, 100), coded(0, 100)]);
    assert_eq!(mapped.error(4096).errno(), 117, "the address leaves 64 bits");
    assert_eq!(mapped.error(0).errno(), 117);
}

#[test]
fn the_way_to_an_address_is_bounded() {
    let mapped = addressless(100 * 4096, 0, &[coded(0, 100); 100]);
    let limits = Limits { extents: 50, ..Limits::default() };
    let image = mapped.open_within(limits);
    let mut map = ZMap::new(&image, &image.inode(NID).unwrap()).unwrap();
    let error = map.at(99 * 4096).unwrap_err();
    assert!(matches!(error, Error::Limit { name: "extents", value: 99, limit: 50, .. }), "{error}");
    assert_eq!((error.nid(), error.extent()), (Some(NID), Some(99 * 4096)));
    assert!((0..100).all(|number| map.at(number * 4096).is_ok()), "step by step it is reached");
}

#[test]
fn plain_records_are_rotated_only_on_whole_blocks() {
    let list = [(4096, 8192, 0), (4096, 8193, 4096), (4097, 8192, 8192), (8192, 0, 12288)];
    let formats = |advise| -> Vec<_> {
        let extents = records(2, 5 * 4096, advise, &list).extents();
        let format = |extent: &ZExtent| match extent.place {
            ZPlace::Pcluster { format, .. } => format,
            _ => panic!("{extent:?}"),
        };
        extents.iter().map(format).collect()
    };
    let (shifted, interlaced) = (ZFormat::Shifted, ZFormat::Interlaced);
    assert_eq!(formats(INTERLACED), [interlaced, shifted, shifted, interlaced]);
    assert_eq!(formats(0), [shifted; 4]);
}

#[test]
fn the_last_record_may_be_a_fragment() {
    let list = [(coded(0, 100), 5000, 0), (0x8000_0007, 0x0001_0000_0003, 4096)];
    for code in [1, 2, 3] {
        let extents = records(code, 4196, FRAGMENT, &list).extents();
        assert_eq!(extents[1], fragment(4096, 100, 0x0003_8000_0007), "{code}");
    }
    let mut mapped = addressless(4196, 0, &[coded(0, 100), 0x8000_0007]);
    mapped.header.h_advise = (EXTENTS | FRAGMENT).into();
    assert_eq!(mapped.extents()[1], fragment(4096, 100, 0x8000_0007));
    mapped.incompat.remove(FeatureIncompat::FRAGMENTS);
    assert_eq!(mapped.broken(4096), MapCorruption::NoPackedInode);
}

#[test]
fn records_that_do_not_ascend_are_errors_where_linux_sees_it() {
    let list =
        [(coded(0, 10), 0, 0), (coded(0, 10), 0, 5000), (coded(0, 10), 0, 3000), (coded(0, 10), 0, 4000)];
    let mapped = records(2, 9000, 0, &list);
    assert_eq!(mapped.broken(1000), MapCorruption::Unsorted { found: 5000 });
    let behind = records(2, 9000, 0, &[(coded(0, 10), 0, 0), (coded(0, 10), 0, 9001)]);
    assert_eq!(behind.broken(0), MapCorruption::Unsorted { found: 9001 });
}

#[test]
fn lies_in_records_are_errors() {
    let one = |plen, pstart, size| records(2, size, 0, &[(plen, pstart, 0)]);
    let unknown = one(coded(4, 10), 0, 100).unsupported(0);
    assert_eq!(unknown, Feature::Unknown(FormatError::UnknownAlgorithm { found: 4 }));
    let large = one(coded(3, 0x10_0001), 0, 2 << 20).unsupported(0);
    assert_eq!(large, Feature::PclusterSize { found: 0x10_0001 });
    let long = one(coded(3, 10), 0, (12 << 20) + 1).unsupported(0);
    assert_eq!(long, Feature::ExtentLength { found: (12 << 20) + 1 });
    assert_eq!(one(coded(3, 10), 0, 12 << 20).extents().len(), 1);
    assert_eq!(one(99, 0, 100).broken(0), MapCorruption::PlainTooShort { plen: 99, llen: 100 });
    let end = (1 << 60) - 10;
    assert_eq!(one(coded(0, 10), end, 100).broken(0), MapCorruption::BeyondAddresses { position: end });
    assert_eq!(one(coded(0, 10), end - 1, 100).extents().len(), 1);
    assert_eq!(one(coded(0, 10), u64::MAX - 5, 100).error(0).errno(), 117);
    let grows = records(2, 300, 0, &[(coded(0, 101), 0, 0), (coded(0, 1), 0, 100)]);
    assert_eq!(grows.broken(99), MapCorruption::Grows { plen: 101, llen: 100 });
}

#[test]
fn records_that_are_claimed_and_not_there_cost_nothing() {
    let mut mapped = records(3, 1 << 50, 0, &[(coded(0, 10), 0, 0)]);
    mapped.header.h_u = u32::MAX.into();
    mapped.header.h_clusterbits = 0x7f;
    assert_eq!(mapped.error(0).errno(), 5, "they lie behind the image's end");
}
