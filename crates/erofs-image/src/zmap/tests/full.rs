use erofs_format::zmap::{LI_HOLE, LI_PARTIAL_REF};

use super::*;

const BIG_1: u16 = 2;
const BIG_2: u16 = 4;
const INTERLACED: u16 = 0x10;

#[test]
fn extents_start_and_end_inside_logical_clusters() {
    let entries = [head(HEAD1, 0, 7), nonhead(1, 2), nonhead(2, 1), head(HEAD2, 40, 8), head(PLAIN, 50, 9)];
    let mapped = Mapped::full(4 * 4096 + 60, 0, &entries).algorithms(1, 3);
    let plain = 4 * 4096 + 50;
    let expected = [
        data(0, 12328, 7 * 4096, 4096, LZMA),
        data(12328, plain - 12328, 8 * 4096, 4096, ZSTD),
        data(plain, 10, 9 * 4096, 4096, ZFormat::Shifted),
    ];
    assert_eq!(mapped.extents(), expected);
}

#[test]
fn an_extent_ends_with_its_file_also_where_an_entry_says_more() {
    // The last head starts behind the end of the file.
    let mapped = Mapped::full(4096 + 60, 0, &[head(HEAD1, 0, 7), head(HEAD1, 100, 8)]);
    assert_eq!(mapped.extents(), [data(0, 4156, 7 * 4096, 4096, LZ4)]);
}

#[test]
fn plain_clusters_are_rotated_if_the_inode_says_so() {
    let mapped = Mapped::full(4096, INTERLACED, &[head(PLAIN, 0, 7)]);
    assert_eq!(mapped.extents(), [data(0, 4096, 7 * 4096, 4096, ZFormat::Interlaced)]);
}

#[test]
fn the_way_back_may_take_several_steps_and_the_way_on_is_not_believed() {
    // Images made before 2019 say 0.
    let entries = [head(HEAD1, 0, 7), nonhead(1, 0), nonhead(1, 0), nonhead(2, 9), head(HEAD1, 0, 8)];
    let mapped = Mapped::full(5 * 4096, 0, &entries);
    assert_eq!(mapped.extents()[0], data(0, 4 * 4096, 7 * 4096, 4096, LZ4));
}

#[test]
fn big_pclusters_state_their_size_behind_their_head() {
    let entries = [
        head(HEAD1, 0, 7),
        count(2, 3),
        nonhead(2, 2),
        nonhead(3, 1),
        head(HEAD1, 0, 9),
        head(HEAD2, 0, 10),
        count(2, 2),
        nonhead(2, 1),
        head(HEAD1, 0, 20),
    ];
    let mapped = Mapped::full(9 * 4096, BIG_1 | BIG_2, &entries);
    let expected = [
        data(0, 4 * 4096, 7 * 4096, 8192, LZ4),
        data(4 * 4096, 4096, 9 * 4096, 4096, LZ4),
        data(5 * 4096, 3 * 4096, 10 * 4096, 8192, LZ4),
        data(8 * 4096, 4096, 20 * 4096, 4096, LZ4),
    ];
    assert_eq!(mapped.extents(), expected);
    // Only HEAD1 has big ones: HEAD2 is one block, whatever stands behind it.
    let only_1 = Mapped { header: MapHeader { h_advise: BIG_1.into(), ..mapped.header }, ..mapped };
    let extents = only_1.extents();
    assert_eq!((extents[0], extents[2]), (expected[0], data(5 * 4096, 3 * 4096, 10 * 4096, 4096, LZ4)));
}

#[test]
fn holes_and_partial_references_are_told_by_the_head() {
    let entries = [
        head(HEAD1 | LI_PARTIAL_REF, 0, 7),
        head(HEAD1 | LI_HOLE, 10, u32::MAX),
        nonhead(1, 1),
        head(HEAD1, 20, 9),
        count(0, 1),
        head(PLAIN, 0, 12),
    ];
    let mapped = Mapped::full(6 * 4096, BIG_1 | BIG_2, &entries);
    let expected = [
        partial(data(0, 4106, 7 * 4096, 4096, LZ4)),
        hole(4106, 3 * 4096 + 20 - 4106),
        hole(3 * 4096 + 20, 2 * 4096 - 20),
        data(5 * 4096, 4096, 12 * 4096, 4096, ZFormat::Shifted),
    ];
    assert_eq!(mapped.extents(), expected);
}

#[test]
fn a_long_hole_comes_in_pieces() {
    let mut entries = vec![nonhead(1, 1); 70_001];
    entries[0] = head(HEAD1 | LI_HOLE, 0, 0);
    entries[70_000] = head(HEAD1, 0, 7);
    let mapped = Mapped::full(70_001 * 4096, 0, &entries);
    mapped.with(|map| {
        let first = map.at(5).unwrap();
        assert_eq!((first.la, first.place), (0, ZPlace::Hole));
        let second = map.at(first.llen).unwrap();
        assert_eq!(second, hole(first.llen, 70_000 * 4096 - first.llen));
        assert_eq!(map.at(70_000 * 4096).unwrap(), data(70_000 * 4096, 4096, 7 * 4096, 4096, LZ4));
    });
}

#[test]
fn the_last_pcluster_may_be_larger_than_its_data_and_no_other() {
    let last = Mapped::full(4096 + 5, 0, &[head(HEAD1, 0, 7), head(HEAD1, 0, 8)]);
    assert_eq!(last.extents()[1], data(4096, 5, 8 * 4096, 4096, LZ4));
    let inner = [head(HEAD1, 0, 7), head(HEAD1, 0, 8), head(HEAD1, 5, 9)];
    let inner = Mapped::full(3 * 4096, BIG_1, &[inner[0], count(9, 1), inner[2]]);
    assert_eq!(inner.broken(0), MapCorruption::Grows { plen: 9 * 4096, llen: 8197 });
    assert_eq!(inner.with(|map| map.at(8197).unwrap()).la, 8197, "the next extent is none the worse");
}

#[test]
fn partial_references_may_be_smaller_than_their_pcluster() {
    let entries = [head(HEAD1 | LI_PARTIAL_REF, 0, 7), count(9, 1), head(HEAD1, 5, 9)];
    let mapped = Mapped::full(3 * 4096, BIG_1, &entries);
    assert_eq!(mapped.extents()[0], partial(data(0, 8197, 7 * 4096, 9 * 4096, LZ4)));
}

#[test]
fn ways_back_that_lead_nowhere_are_errors() {
    let lookback = |entries: &[LclusterIndex], offset| {
        Mapped::full(entries.len() as u64 * 4096, 0, entries).broken(offset)
    };
    let none = lookback(&[nonhead(1, 1)], 5);
    assert_eq!(none, MapCorruption::Lookback { lcn: 0, distance: 1 });
    let zero = lookback(&[head(HEAD1, 0, 7), nonhead(0, 1)], 4096);
    assert_eq!(zero, MapCorruption::Lookback { lcn: 1, distance: 0 });
    let far = lookback(&[head(HEAD1, 0, 7), nonhead(1, 1), nonhead(3, 1)], 8192);
    assert_eq!(far, MapCorruption::Lookback { lcn: 2, distance: 3 });
    let first = lookback(&[head(HEAD1, 9, 7)], 8);
    assert_eq!(first, MapCorruption::Lookback { lcn: 0, distance: 1 });
}

#[test]
fn ways_back_have_an_end() {
    let mut entries = vec![nonhead(1, 1); 70_000];
    entries[0] = head(HEAD1, 0, 7);
    let mapped = Mapped::full(70_000 * 4096, 0, &entries);
    assert!(matches!(mapped.broken(69_999 * 4096), MapCorruption::Lookback { .. }));
    assert!(matches!(mapped.unsupported(0), Feature::ExtentLength { .. }), "12 MiB are the most");
}

#[test]
fn contradictions_are_errors() {
    let far = Mapped::full(2 * 4096, 0, &[head(HEAD1, 0, 7), head(HEAD1, 4096, 8)]);
    assert_eq!(far.broken(4096), MapCorruption::ClusterOffset { lcn: 1, found: 4096 });
    assert_eq!(far.broken(0), MapCorruption::ClusterOffset { lcn: 1, found: 4096 });
    let entries = [head(HEAD1, 0, 7), head(HEAD1, 0, 8), nonhead(2, 1)];
    let crossed = Mapped::full(3 * 4096, 0, &entries);
    assert_eq!(crossed.broken(8192), MapCorruption::Inconsistent { offset: 8192 });
    let short = Mapped::full(2 * 4096, 0, &[head(PLAIN, 0, 7), nonhead(1, 1)]);
    assert_eq!(short.broken(0), MapCorruption::PlainTooShort { plen: 4096, llen: 8192 });
}

#[test]
fn sizes_of_pclusters_stand_only_where_they_may() {
    let entries = [head(HEAD1, 0, 7), count(2, 1)];
    assert_eq!(Mapped::full(8192, 0, &entries).broken(4096), MapCorruption::UnexpectedBlockCount { lcn: 1 });
    let entries = [head(HEAD1, 0, 7), nonhead(1, 1)];
    assert_eq!(Mapped::full(8192, BIG_1, &entries).broken(0), MapCorruption::NoBlockCount { lcn: 1 });
    let mut entries = vec![nonhead(1, 1); 400];
    entries[0] = head(HEAD1, 0, 7);
    entries[1] = count(257, 1);
    let large = Mapped::full(400 * 4096, BIG_1, &entries);
    assert_eq!(large.unsupported(0), Feature::PclusterSize { found: 257 * 4096 });
}

#[test]
fn an_index_beyond_the_image_is_read_as_far_as_it_goes() {
    // Entries for 4 GiB are claimed; the image ends after a few.
    let mut mapped = Mapped::full(1 << 32, 0, &[head(HEAD1, 0, 7), head(HEAD1, 0, 8)]);
    mapped.index.extend(vec![1; 2048]);
    mapped.with(|map| {
        assert_eq!(map.at(0).unwrap(), data(0, 4096, 7 * 4096, 4096, LZ4));
        assert!(map.at(1 << 31).is_err());
    });
}
