use super::*;

const INLINE: u16 = 8;
const INTERLACED: u16 = 0x10;
const FRAGMENT: u16 = 0x20;

fn inline(la: u64, llen: u64, position: u64, plen: u32, format: ZFormat) -> ZExtent {
    let at = ZAt::Inline { space: Space::Primary, position };
    ZExtent { la, llen, place: ZPlace::Pcluster { at, plen, format, partial: false } }
}

fn with_tail(mut mapped: Mapped, plen: u32) -> Mapped {
    mapped.header.h_u = (plen << 16).into();
    mapped
}

fn two_heads(advise: u16) -> Mapped {
    Mapped::full(2 * 4096 + 9, advise, &[head(HEAD1, 0, 7), head(HEAD1, 5, 8), nonhead(1, 1)])
}

#[test]
fn the_last_pcluster_may_lie_behind_a_full_index() {
    let extents = with_tail(two_heads(INLINE), 30).extents();
    let tail = inline(4101, 4100, HEADER + 16 + 3 * 8, 30, LZ4);
    assert_eq!(extents, [data(0, 4101, 7 * 4096, 4096, LZ4), tail]);
    let none = with_tail(two_heads(INLINE), 0).extents();
    assert_eq!(none[1], data(4101, 4100, 8 * 4096, 4096, LZ4), "0 bytes are no tail");
}

#[test]
fn the_last_pcluster_may_lie_behind_the_last_pack() {
    // HEAD1 three times, and an entry that nothing uses.
    let entry = |low: u16| (1 << 12 | low).to_le_bytes();
    let pack = [&entry(0)[..], &entry(0), &6_u32.to_le_bytes()].concat();
    let mapped = Mapped::new(DataLayout::CompressedCompact, 3 * 4096, INLINE, [pack.clone(), pack].concat());
    let extents = with_tail(mapped, 100).extents();
    assert_eq!(extents[2], inline(8192, 4096, HEADER + 8 + 16, 100, LZ4));
}

#[test]
fn plain_tails_are_never_rotated() {
    let mapped = Mapped::full(20, INLINE | INTERLACED, &[head(PLAIN, 0, 7)]);
    assert_eq!(with_tail(mapped, 20).extents(), [inline(0, 20, HEADER + 24, 20, ZFormat::Shifted)]);
}

#[test]
fn a_tail_stays_in_its_block() {
    let at = (HEADER + 16 + 3 * 8) % 4096;
    let room = 4096 - u32::try_from(at).unwrap();
    assert_eq!(with_tail(two_heads(INLINE), room).extents().len(), 2);
    let over = with_tail(two_heads(INLINE), room + 1);
    assert_eq!(over.broken(8192), MapCorruption::InlineCrossesBlock { plen: u64::from(room) + 1 });
    assert_eq!(over.with(|map| map.at(0).unwrap()).llen, 4101, "what lies before is none the worse");
}

#[test]
fn the_tail_is_the_extent_that_ends_the_file() {
    // The last head starts behind the end of the file.
    let mapped = Mapped::full(4096 + 5, INLINE, &[head(HEAD1, 0, 7), head(HEAD1, 5, 8)]);
    assert_eq!(with_tail(mapped, 30).extents(), [inline(0, 4101, HEADER + 32, 30, LZ4)]);
}

#[test]
fn the_tail_may_lie_in_the_packed_inode() {
    let mut mapped = two_heads(FRAGMENT | INLINE).with_packed();
    mapped.header.h_u = 1234.into();
    // The head's address is the high half.
    assert_eq!(mapped.extents()[1], fragment(4101, 4100, (8 << 32) + 1234));
    let entry = |low: u16| (1 << 12 | low).to_le_bytes();
    let pack = [&entry(0)[..], &entry(0), &6_u32.to_le_bytes()].concat();
    let mut mapped = Mapped::new(DataLayout::CompressedCompact, 8192, FRAGMENT, pack).with_packed();
    mapped.header.h_u = 1234.into();
    assert_eq!(mapped.extents()[1], fragment(4096, 4096, 1234));
}

#[test]
fn a_whole_file_may_lie_in_the_packed_inode() {
    let entries = [head(HEAD1, 0, 0), nonhead(1, 1), nonhead(2, 1)];
    let mut mapped = Mapped::full(2 * 4096 + 9, FRAGMENT, &entries).with_packed();
    mapped.header.h_u = 77.into();
    assert_eq!(mapped.extents(), [fragment(0, 8201, 77)]);
    let mut mapped = Mapped::new(DataLayout::CompressedCompact, 1 << 40, 0, Vec::new()).with_packed();
    mapped.header =
        MapHeader { h_u: 5.into(), h_advise: 6.into(), h_algorithmtype: 0xff, h_clusterbits: 0x87 };
    assert_eq!(mapped.extents(), [fragment(0, 1 << 40, 0x07ff_0006_0000_0005)]);
}

#[test]
fn fragments_need_a_packed_inode_other_than_their_own() {
    let mapped = two_heads(FRAGMENT);
    assert_eq!(mapped.broken(8192), MapCorruption::NoPackedInode);
    let mut mapped = mapped.with_packed();
    mapped.packed_nid = 0;
    assert_eq!(mapped.broken(8192), MapCorruption::NoPackedInode);
    mapped.packed_nid = NID;
    assert_eq!(mapped.broken(8192), MapCorruption::FragmentInPackedInode);
    assert_eq!(mapped.with(|map| map.at(0).unwrap()).llen, 4101, "what lies before is none the worse");
    mapped.header.h_clusterbits = 0x80;
    assert_eq!(mapped.broken(0), MapCorruption::FragmentInPackedInode);
}

#[test]
fn a_tail_that_cannot_be_found_spoils_the_file_as_in_linux() {
    let mapped = Mapped::full(2 * 4096, FRAGMENT, &[head(HEAD1, 0, 7), nonhead(0, 1)]).with_packed();
    assert_eq!(mapped.broken(0), MapCorruption::Lookback { lcn: 1, distance: 0 });
}

#[test]
fn a_tail_that_leads_past_a_head_is_none() {
    let entries = [head(HEAD1, 0, 7), head(HEAD1, 0, 8), head(HEAD1, 0, 9), nonhead(2, 1)];
    let mapped = with_tail(Mapped::full(4 * 4096, INLINE, &entries), 30);
    assert_eq!(mapped.broken(3 * 4096), MapCorruption::Inconsistent { offset: 4 * 4096 - 1 });
    assert_eq!(mapped.with(|map| map.at(2 * 4096).unwrap()), data(8192, 8192, 9 * 4096, 4096, LZ4));
}
