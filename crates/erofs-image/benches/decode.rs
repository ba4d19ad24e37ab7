//! Reads all files of an image and throws the bytes away, as `fsck.erofs --extract` without a
//! target does, walk included: by one thread and by several, from a file and from memory.
//!
//! `cargo bench -p erofs-image --bench decode -- IMAGE`
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use erofs_image::{FileSource, Image, Inode, MemorySource, OpenOptions, Piece, ReadAt, Scratch};

const ROUNDS: usize = 5;

/// Opens, walks and reads; how many bytes there were.
fn read_all(source: &Arc<dyn ReadAt>, threads: usize) -> u64 {
    let image = Image::open(Arc::clone(source), OpenOptions::default()).expect("an image");
    let root = image.inode(image.root_nid()).expect("a root");
    let files: Vec<Inode> =
        image.walk(&root).map(|entry| entry.expect("an entry").inode).filter(Inode::is_file).collect();
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut scratch = Scratch::new();
                while let Some(inode) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let read = image.for_each_piece(inode, 0..inode.size, &mut scratch, &mut |_, piece| {
                        let len = match piece {
                            Piece::Data(data) => data.len() as u64,
                            Piece::Hole(len) => len,
                        };
                        bytes.fetch_add(len, Ordering::Relaxed);
                        ControlFlow::Continue(())
                    });
                    read.expect("the data of a file");
                }
            });
        }
    });
    bytes.into_inner()
}

fn main() {
    let Some(path) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) else {
        println!("decode: no image was named");
        return;
    };
    let sources: [(&str, Arc<dyn ReadAt>); 2] = [
        ("file", Arc::new(FileSource::open(&path).expect("a file"))),
        ("memory", Arc::new(MemorySource::new(std::fs::read(&path).expect("a file")))),
    ];
    for (name, source) in &sources {
        for threads in [1, 2] {
            let mut times: Vec<(Duration, u64)> = Vec::new();
            for _ in 0..ROUNDS {
                let start = Instant::now();
                let bytes = read_all(source, threads);
                times.push((start.elapsed(), bytes));
            }
            times.sort_unstable();
            let (time, bytes) = times[ROUNDS / 2];
            // Fine for figures that people read.
            #[allow(clippy::cast_precision_loss)]
            let rate = bytes as f64 / 1e6 / time.as_secs_f64();
            println!("{name:>6} {threads} threads {:>8.1} ms {rate:>8.0} MB/s", time.as_secs_f64() * 1e3);
        }
    }
}
