//! Memory stays within bounds whatever an image says. One test alone in its process: what counts
//! is the most memory that the process ever had.

mod support;

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use erofs_format::zmap::{Advise, ExtentRecord, MapHeader};
use erofs_image::{FileSource, Image, Inode, Limits, OpenOptions, Piece, Reader, Scratch};
use support::Builder;
use support::compressed::{Map, lz4, right_aligned};
use zerocopy::IntoBytes;

/// The most that Linux lets a cluster decode to, and to be encoded in.
const LARGEST: usize = 12 << 20;
const ENCODED: usize = 1 << 20;
const EXTENTS: usize = 40;

/// In `plen` of an extent record: encoded with LZ4; decodes to more, so that what is behind the
/// block is not looked at.
const LZ4: u32 = 1 << 28;
const PARTIAL: u32 = 1 << 27;

/// What reading may take beyond the cache of clusters.
const ALLOWED: u64 = 150 << 20;

/// A file of clusters of 1 MiB for 12 MiB each, all different to whoever keeps them.
fn hostile() -> (Image, Inode) {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.lz4();
    let block = lz4(&[7], 1, LARGEST - 13, &[7; 12]);
    let mut map = Map::default().advise(Advise::EXTENTS | Advise::BIG_PCLUSTER_2);
    map.header = MapHeader { h_u: u32::try_from(EXTENTS).unwrap().into(), ..map.header };
    let mut records = Vec::new();
    let padded = right_aligned(&block, block.len().next_multiple_of(4096));
    let file = tempfile::tempfile().unwrap();
    file.set_len((EXTENTS as u64 + 2) << 20).unwrap();
    for number in 0..EXTENTS {
        let position = (1 << 20) + number * ENCODED;
        file.write_all_at(&padded, position as u64).unwrap();
        let record = ExtentRecord {
            plen: (LZ4 | PARTIAL | u32::try_from(ENCODED).unwrap()).into(),
            pstart_lo: u32::try_from(position).unwrap().into(),
            lstart_lo: u32::try_from(number * LARGEST).unwrap().into(),
            ..ExtentRecord::default()
        };
        records.extend(&record.as_bytes()[..16]);
    }
    map.tail = records;
    builder.put_file(64, EXTENTS * LARGEST, &map);
    file.write_all_at(&builder.finish(), 0).unwrap();
    let image = Image::open(Arc::new(FileSource::new(file)), OpenOptions::default()).unwrap();
    let inode = image.inode(64).unwrap();
    (image, inode)
}

/// The most memory that this process had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn threads_on_the_largest_clusters_stay_within_bounds() {
    let (image, inode) = hostile();
    let image = Arc::new(image);
    let before = peak();
    read_in_all_ways(&image, inode);
    read_by_many(&image, &inode);
    let taken = peak() - before;
    let allowed = ALLOWED + Limits::default().decoded_cache_bytes;
    assert!(taken < allowed, "{} MiB", taken >> 20);
}

/// Many threads at once, each in other clusters, by pieces and by small reads.
fn read_by_many(image: &Image, inode: &Inode) {
    std::thread::scope(|scope| {
        for thread in 0..64_u64 {
            scope.spawn(move || {
                let start = thread % EXTENTS as u64 * LARGEST as u64;
                let mut read = 0;
                let range = start..start + LARGEST as u64 + 1;
                let done = image.for_each_piece(inode, range, &mut Scratch::new(), &mut |_, piece| {
                    let Piece::Data(data) = piece else { panic!("a hole") };
                    read += data.len();
                    ControlFlow::Continue(())
                });
                done.unwrap();
                assert!(read >= LARGEST);
                let mut buf = [0; 4096];
                let offset = start + LARGEST as u64 - 4096;
                assert_eq!(image.read(inode, offset, &mut buf).unwrap(), 4096);
                assert_eq!(buf, [7; 4096]);
            });
        }
    });
}

/// Two threads, each by pieces, in small steps here and there, in order, and by a large read.
fn read_in_all_ways(image: &Arc<Image>, inode: Inode) {
    let size = inode.size;
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            scope.spawn(move || {
                let mut scratch = Scratch::new();
                let mut read = 0;
                let done = image.for_each_piece(&inode, 0..size, &mut scratch, &mut |_, piece| {
                    let Piece::Data(data) = piece else { panic!("a hole") };
                    assert!(data.iter().all(|byte| *byte == 7));
                    read += data.len() as u64;
                    ControlFlow::Continue(())
                });
                done.unwrap();
                assert_eq!(read, size);
                let mut buf = [0; 4096];
                for step in 0..EXTENTS as u64 {
                    let offset = (step * 2 + thread) * (LARGEST as u64 / 2) + 1_000_000;
                    assert_eq!(image.read(&inode, offset.min(size - 4096), &mut buf).unwrap(), 4096);
                    assert_eq!(buf, [7; 4096]);
                }
                let reader = Reader::new(Arc::clone(image), inode, 2);
                for step in 0..200 {
                    let offset = thread * (LARGEST as u64) + step * 100_000;
                    assert_eq!(reader.read_at(offset, &mut vec![0; 100_000]).unwrap(), 100_000);
                }
                let mut buf = vec![0; 3 << 20];
                assert_eq!(image.read_parallel(&inode, 1_000_001, &mut buf, 2).unwrap(), buf.len());
            });
        }
    });
}
