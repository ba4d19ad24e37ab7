//! Data of compressed files: clusters, plain extents, holes, tails, and what is wrong with them.

mod support;

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use erofs_format::compression::Algorithms;
use erofs_format::zmap::{Advise, LI_D0_CBLKCNT, LI_HOLE, LI_PARTIAL_REF, LclusterType};
use erofs_image::{
    Algorithm, Corruption, Error, FileSource, Image, Inode, Limits, OpenOptions, Piece, Place, Reader,
    Scratch,
};
use support::compressed::{Map, SAMPLE, lz4, right_aligned, sample_data, unlz4};
use support::{Builder, DIR, LNK, ROOT, dir_block, dots, names, open_with, pattern, read_all};

/// An image with the sample as inode 64.
fn sample() -> Builder {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.lz4().put_sample(64, 20);
    builder
}

/// The same in a file, so that nothing is lent.
fn from_file(builder: &Builder, options: OpenOptions) -> Image {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&builder.finish()).unwrap();
    Image::open(Arc::new(FileSource::new(file)), options).unwrap()
}

fn without_cache() -> OpenOptions {
    let mut limits = Limits::default();
    limits.decoded_cache_bytes = 0;
    OpenOptions { limits, ..OpenOptions::default() }
}

/// All pieces, joined, and how many there were.
fn pieces(image: &Image, inode: &Inode) -> (Vec<u8>, usize, Result<(), Error>) {
    let (mut bytes, mut count) = (Vec::new(), 0);
    let read = image.for_each_piece(inode, 0..u64::MAX, &mut Scratch::new(), &mut |at, piece| {
        assert_eq!(at, bytes.len() as u64);
        count += 1;
        match piece {
            Piece::Data(data) => bytes.extend_from_slice(data),
            Piece::Hole(len) => bytes.resize(bytes.len() + usize::try_from(len).unwrap(), 0),
        }
        ControlFlow::Continue(())
    });
    (bytes, count, read)
}

/// Reads `inode` in every way there is.
fn check(image: &Image, inode: &Inode, data: &[u8]) {
    assert!(read_all(image, inode).unwrap() == data);
    for offset in [0, 1, 999, 4095, 4096, 8192, 9191, 9192, 12_787, 16_999] {
        for len in [1, 7, 4096, 5000, 20_000] {
            let wanted = data.get(offset..).unwrap_or_default();
            let wanted = &wanted[..wanted.len().min(len)];
            for threads in [1, 3] {
                let mut buf = vec![0xAA; len];
                let count = image.read_parallel(inode, offset as u64, &mut buf, threads).unwrap();
                assert!(&buf[..count] == wanted, "{len} bytes at {offset}");
            }
        }
    }
    let (bytes, _, read) = pieces(image, inode);
    read.unwrap();
    assert!(bytes == data);
}

#[test]
fn a_compressed_file_reads_back_from_any_offset() {
    let builder = sample();
    let (image, inode) = builder.open_64();
    check(&image, &inode, &sample_data());
    assert_eq!(image.read(&inode, 17_000, &mut [0; 4]).unwrap(), 0);
    assert_eq!(image.read(&inode, u64::MAX, &mut [0; 4]).unwrap(), 0);
    let image = from_file(&builder, OpenOptions::default());
    check(&image, &inode, &sample_data());
    check(&from_file(&builder, without_cache()), &inode, &sample_data());
}

#[test]
fn extents_say_where_clusters_and_plain_bytes_lie() {
    let (image, inode) = sample().open_64();
    let extents: Vec<_> = image.extents(&inode).map(Result::unwrap).collect();
    let starts: Vec<u64> = extents.iter().map(|extent| extent.logical).collect();
    assert_eq!(starts, SAMPLE[..3]);
    let encoded = |block: u64| Place::Encoded {
        blob: 0,
        offset: block * 4096,
        len: 4096,
        algorithm: Some(Algorithm::Lz4),
    };
    assert_eq!([extents[0].place, extents[2].place], [encoded(20), encoded(22)]);
    assert_eq!(extents[1].place, Place::Raw { blob: 0, offset: 21 * 4096 });
    let middle = image.map(&inode, 10_000).unwrap();
    assert_eq!((middle.logical, middle.len), (10_000, SAMPLE[2] - 10_000));
    assert_eq!(middle.place, Place::Raw { blob: 0, offset: 21 * 4096 + 10_000 - SAMPLE[1] });
    assert_eq!(image.map(&inode, 17_000).unwrap().len, 0);
}

#[test]
fn a_bad_cluster_fails_only_what_needs_it() {
    let mut builder = sample();
    // A match that reaches back before the start.
    builder.put_block(20, &right_aligned(&[0x10, b'x', 0xFF, 0xFF], 4096));
    let (image, inode) = builder.open_64();
    let data = sample_data();
    let mut buf = [0; 5000];
    assert_eq!(image.read(&inode, SAMPLE[1], &mut buf).unwrap(), 5000);
    assert!(buf[..] == data[9192..14_192]);
    for (offset, len) in [(0, 17_000), (9191, 2), (5, 1)] {
        let error = image.read(&inode, offset, &mut vec![0; len]).unwrap_err();
        assert_eq!((error.nid(), error.extent(), error.offset()), (Some(64), Some(0), Some(20 * 4096)));
        assert_eq!(error.errno(), 117);
        assert!(error.to_string().starts_with("corrupt image: cannot decode lz4: "), "{error}");
    }
}

#[test]
fn pieces_before_an_error_are_handed_over() {
    let mut builder = sample();
    builder.put_block(22, &[0; 4096]);
    let (image, inode) = builder.open_64();
    let (bytes, _, read) = pieces(&image, &inode);
    assert_eq!(read.unwrap_err().extent(), Some(SAMPLE[2]));
    assert!(bytes == sample_data()[..12_788]);
}

#[test]
fn a_reader_tells_of_an_error_only_who_needs_those_bytes() {
    let mut builder = sample();
    builder.put_block(22, &[0; 4096]);
    let (image, inode) = builder.open_64();
    let reader = Reader::new(Arc::new(image), inode, 2);
    let (mut bytes, mut buf) = (Vec::new(), [0; 700]);
    while bytes.len() + buf.len() < 12_788 {
        let count = reader.read_at(bytes.len() as u64, &mut buf).unwrap();
        bytes.extend_from_slice(&buf[..count]);
    }
    assert!(bytes == sample_data()[..bytes.len()]);
    assert_eq!(reader.read_at(12_700, &mut buf).unwrap_err().extent(), Some(SAMPLE[2]));
    assert_eq!(reader.read_at(9_000, &mut buf).unwrap(), 700);
}

#[test]
fn a_cluster_beyond_the_image_is_an_error_with_its_place() {
    let mut builder = sample();
    builder.put_file(64, 5000, &Map::default().head(LclusterType::Head1, 0, 9999).next(1, 1));
    for image in [builder.open().unwrap(), from_file(&builder, OpenOptions::default())] {
        let error = image.read(&image.inode(64).unwrap(), 0, &mut [0; 5000]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { what: Corruption::PastEnd { .. }, .. }), "{error}");
        assert_eq!((error.nid(), error.extent(), error.offset()), (Some(64), Some(0), Some(9999 * 4096)));
    }
}

#[test]
fn an_extent_may_be_a_part_of_what_its_cluster_decodes_to() {
    let mut builder = sample();
    let map = Map::default().head_with(LclusterType::Head1, LI_PARTIAL_REF, 0, 20).next(1, 1);
    builder.put_file(96, 7000, &map);
    // Without the flag it has to be all.
    builder.put_file(128, 7000, &Map::default().head(LclusterType::Head1, 0, 20).next(1, 1));
    let image = builder.open().unwrap();
    check(&image, &image.inode(96).unwrap(), &sample_data()[..7000]);
    let failed = read_all(&image, &image.inode(128).unwrap());
    assert!(
        matches!(failed, Err(Error::Corrupt { what: Corruption::Decode { .. }, .. })),
        "whatever is cached"
    );
}

#[test]
fn deflate_and_zstandard_may_decode_to_more_than_the_extent_as_in_linux() {
    let data = pattern(9000);
    let size = u16::try_from(data.len()).unwrap();
    let head = |kind| Map::default().head(kind, 0, 20).next(1, 3).next(2, 2);
    // A last, stored block, after its length also the other way round.
    let deflate = [&[1][..], &size.to_le_bytes(), &(!size).to_le_bytes(), &data].concat();
    // One frame with its size in two bytes, of one raw block.
    let block = (u32::from(size) << 3 | 1).to_le_bytes();
    let zstd = [&0xFD2F_B528_u32.to_le_bytes()[..], &[0x60], &(size - 256).to_le_bytes(), &block[..3], &data];
    for (number, stream) in [(2, deflate), (3, zstd.concat())] {
        let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
        builder.algorithms(Algorithms::all());
        for (index, block) in right_aligned(&stream, 3 * 4096).chunks(4096).enumerate() {
            builder.put_block(20 + index as u64, block);
        }
        for (nid, size) in [(64, 9000), (96, 8500), (128, 9001)] {
            let mut map = Map::default().advise(Advise::BIG_PCLUSTER_1);
            map.header.h_algorithmtype = number;
            map.entries = head(LclusterType::Head1).entries;
            map.entries[1].di_u = (u32::from(LI_D0_CBLKCNT | 3) | 2 << 16).into();
            map.entries[2].di_u = (1 << 16 | 2).into();
            builder.put_file(nid, size, &map);
        }
        let image = builder.open().unwrap();
        check(&image, &image.inode(64).unwrap(), &data);
        check(&image, &image.inode(96).unwrap(), &data[..8500]);
        let failed = read_all(&image, &image.inode(128).unwrap());
        assert!(matches!(failed, Err(Error::Corrupt { what: Corruption::Decode { .. }, .. })), "too little");
    }
}

#[test]
fn holes_are_zeros_and_pieces_of_their_own() {
    let mut builder = sample();
    let data = [unlz4(&pattern(100), 7, 3984, b"last bytes!!")].concat();
    builder.put_block(30, &right_aligned(&lz4(&pattern(100), 7, 3984, b"last bytes!!"), 4096));
    let map = Map::default()
        .head(LclusterType::Head1, 0, 30)
        .head_with(LclusterType::Head1, LI_HOLE, 0, 0)
        .next(1, 1)
        .head(LclusterType::Head1, 0, 30);
    builder.put_file(64, 4 * 4096, &map);
    let (image, inode) = builder.open_64();
    let all = [&data[..], &[0; 8192], &data[..]].concat();
    check(&image, &inode, &all);
    assert_eq!(pieces(&image, &inode).1, 3);
    assert_eq!(image.map(&inode, 4096).unwrap().place, Place::Hole);
}

#[test]
fn interlaced_bytes_keep_their_place_in_the_block() {
    let mut builder = sample();
    let first = unlz4(&pattern(100), 7, 4996, &pattern(500));
    builder.put_block(30, &right_aligned(&lz4(&pattern(100), 7, 4996, &pattern(500)), 4096));
    // From byte 1500 of a block to its end, and on from the block's start.
    let plain = pattern(9000)[9000 - 4096..].to_vec();
    builder.put_block(31, &[&plain[2596..], &plain[..2596]].concat());
    for size in [5597, 8192, 8193, 9692] {
        let mut map = Map::default()
            .advise(Advise::INTERLACED_PCLUSTER)
            .head(LclusterType::Head1, 0, 30)
            .head(LclusterType::Plain, 1500, 31);
        if size > 8192 {
            map = map.next(1, 1);
        }
        builder.put_file(64, size, &map);
        let (image, inode) = builder.open_64();
        check(&image, &inode, &[&first[..], &plain].concat()[..size]);
        let place = image.map(&inode, 5596).unwrap().place;
        let rotated = Place::Encoded { blob: 0, offset: 31 * 4096, len: 4096, algorithm: None };
        let together = Place::Raw { blob: 0, offset: 31 * 4096 + 1500 };
        assert_eq!(place, if size > 8192 { rotated } else { together });
    }
}

#[test]
fn a_tail_may_lie_behind_the_index() {
    let mut builder = sample();
    let tail = lz4(b"tail", 4, 988, b"the last");
    let data = [sample_data()[..9192].to_vec(), unlz4(b"tail", 4, 988, b"the last")].concat();
    let mut map = Map::default()
        .advise(Advise::INLINE_PCLUSTER)
        .head(LclusterType::Head1, 0, 20)
        .next(1, 1)
        .head(LclusterType::Head1, 1000, 0);
    map.header.h_u = (u32::try_from(tail.len()).unwrap() << 16).into();
    map.tail = tail.clone();
    builder.put_file(64, data.len(), &map);
    let (image, inode) = builder.open_64();
    check(&image, &inode, &data);
    let Place::Encoded { blob: 0, len, .. } = image.map(&inode, 9192).unwrap().place else { panic!() };
    assert_eq!(len, tail.len() as u64);
    // Plain bytes there are the file's own.
    let mut map = map.clone();
    map.entries[2].di_advise = (LclusterType::Plain as u16).into();
    map.tail = pattern(100);
    map.header.h_u = (100 << 16).into();
    builder.put_file(64, 9292, &map);
    let (image, inode) = builder.open_64();
    check(&image, &inode, &[&sample_data()[..9192], &pattern(100)].concat());
}

#[test]
fn blocks_of_old_images_are_aligned_left() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.sb.u1 = 65_535.into();
    let block = lz4(&pattern(100), 7, 4900, &pattern(50));
    builder.put_block(20, &block).put_block(21, &[0]);
    builder.put_file(64, 5050, &Map::default().head(LclusterType::Head1, 0, 20).next(1, 1));
    let (image, inode) = builder.open_64();
    check(&image, &inode, &unlz4(&pattern(100), 7, 4900, &pattern(50)));
}

#[test]
fn directories_and_links_may_be_compressed() {
    let mut builder = Builder::new(12);
    builder.lz4();
    let names_of_files: Vec<String> = (0..80).map(|n| format!("some-file-{n:03}-with-a-long-name")).collect();
    let entries: Vec<_> = names_of_files.iter().map(|name| (name.as_str(), 64, 7)).collect();
    let block = dir_block(&dots(ROOT, ROOT, &entries));
    builder.put_mapped(ROOT, DIR, block.len(), &Map::default().head(LclusterType::Head1, 0, 20));
    builder.put_block(20, &right_aligned(&lz4(&block, 1, 0, &[]), 4096));
    let target = unlz4(b"../", 3, 900, b"end");
    builder.put_mapped(64, LNK, target.len(), &Map::default().head(LclusterType::Head1, 0, 21));
    builder.put_block(21, &right_aligned(&lz4(b"../", 3, 900, b"end"), 4096));
    let image = builder.open().unwrap();
    let root = image.inode(ROOT).unwrap();
    assert_eq!(names(&image, &root).unwrap().len(), 82);
    assert!(image.lookup(&root, b"some-file-077-with-a-long-name").unwrap().is_some());
    assert_eq!(image.read_link(&image.inode(64).unwrap()).unwrap(), target);
}

#[test]
fn work_out_of_proportion_is_a_limit() {
    let builder = sample();
    let mut limits = Limits::default();
    limits.decoded_bytes = 1000;
    let options = OpenOptions { limits, ..OpenOptions::default() };
    let image = open_with(builder.finish(), options).unwrap();
    let inode = image.inode(64).unwrap();
    assert!(read_all(&image, &inode).unwrap() == sample_data(), "an honest file is within it");
    let error = image.read(&inode, 100, &mut [0; 1]).unwrap_err();
    let Error::Limit { name, limit, value, .. } = error else { panic!("{error}") };
    assert_eq!((name, limit), ("decoded_bytes", 1000));
    assert!(value > 1064);
}
