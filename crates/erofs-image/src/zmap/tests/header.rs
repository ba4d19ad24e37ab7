use erofs_format::FormatError;

use super::*;

fn one_head(advise: u16) -> Mapped {
    Mapped::full(4096, advise, &[head(HEAD1, 0, 7)])
}

#[test]
fn unknown_bits_of_h_advise_are_ignored_as_by_linux() {
    assert_eq!(one_head(0xff00).extents(), [data(0, 4096, 7 * 4096, 4096, LZ4)]);
}

#[test]
fn both_algorithms_must_be_known_also_where_one_is_used() {
    for (head1, head2) in [(4, 0), (0, 4), (15, 15)] {
        let found = head1.max(head2);
        let unknown = Feature::Unknown(FormatError::UnknownAlgorithm { found });
        assert_eq!(one_head(0).algorithms(head1, head2).unsupported(0), unknown);
    }
}

#[test]
fn an_algorithm_must_be_one_that_the_superblock_names() {
    let mut mapped = one_head(0).algorithms(1, 0);
    mapped.algorithms = 0b1101;
    let algorithm = Algorithm::Lzma;
    assert_eq!(mapped.broken(0), MapCorruption::AlgorithmNotAvailable { algorithm });
    // Only where it is used.
    let plain = Mapped { index: Mapped::full(4096, 0, &[head(PLAIN, 0, 7)]).index, ..mapped };
    assert_eq!(plain.extents().len(), 1);
}

#[test]
fn without_records_there_is_lz4_alone() {
    let mut mapped = one_head(0);
    mapped.incompat = FeatureIncompat::LZ4_0PADDING;
    mapped.algorithms = 0;
    assert_eq!(mapped.extents(), [data(0, 4096, 7 * 4096, 4096, LZ4)]);
    let mapped = mapped.algorithms(3, 0);
    assert_eq!(mapped.broken(0), MapCorruption::AlgorithmNotAvailable { algorithm: Algorithm::Zstd });
}

#[test]
fn big_pclusters_need_the_superblocks_word_and_both_heads_of_a_compact_index() {
    let mut mapped = one_head(2);
    mapped.incompat = FeatureIncompat::LZ4_0PADDING;
    assert_eq!(mapped.broken(0), MapCorruption::BigPclusterFeature);
    for advise in [2, 4] {
        let compact = Mapped::new(DataLayout::CompressedCompact, 4096, advise, vec![0; 8]);
        assert_eq!(compact.broken(0), MapCorruption::BigPclusterHeads);
    }
}

#[test]
fn a_header_beyond_the_image_is_an_error_with_the_inode() {
    let mut builder = Builder::with_root(12, &[]);
    builder.incompat(FeatureIncompat::LZ4_0PADDING);
    builder.put_inode(126, &extended(DataLayout::CompressedFull, REG, 5, 0));
    let image = builder.open().unwrap();
    let error = ZMap::new(&image, &image.inode(126).unwrap()).unwrap_err();
    assert_eq!((error.nid(), error.offset(), error.errno()), (Some(126), Some(8192), 5));
}

#[test]
fn an_empty_file_has_a_map_without_an_index() {
    for advise in [0, 8, 0x20] {
        let mut mapped = Mapped::new(DataLayout::CompressedCompact, 0, advise, Vec::new());
        mapped.header.h_u = u32::MAX.into();
        assert_eq!(mapped.extents(), []);
    }
}
