//! Equal contents are stored once, wherever they are, and come out as they were.

mod common;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use common::random::{Numbers, noise};
use common::{built, corner_cases, open, view_dir, view_image};
use erofs_build::{BuildOptions, Compression, CompressionAlgorithm, KernelVersion, Rule};

/// Words; those of another seed are others.
fn words(seed: u64, length: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut words = Vec::with_capacity(length + 16);
    while words.len() < length {
        words.extend_from_slice(format!("{:x} ", numbers.next() % 65_536).as_bytes());
    }
    words.truncate(length);
    words
}

/// Files with equals, some moved by a few bytes; returns how many of their bytes are there once only.
fn equals(dir: &Path) -> u64 {
    let put = |name: &str, content: &[u8]| fs::write(dir.join(name), content).unwrap();
    let text = words(1, 6 << 20);
    put("text", &text);
    put("text again", &text);
    put("text moved", &[b"moved", &text[..]].concat());
    put("text cut", &[&text[..2 << 20], b"something else", &text[2 << 20..5 << 20]].concat());
    let small_noise = noise(2, (3 << 20) + 100);
    put("noise", &small_noise);
    put("noise again", &small_noise);
    let mixed = [words(3, 1 << 20), noise(4, (1 << 20) + 7), words(5, 700_000)].concat();
    put("mixed", &mixed);
    put("mixed again", &[b"0123456789", &mixed[..]].concat());
    let large = words(6, (20 << 20) + 5);
    put("large", &large);
    put("large again", &large);
    let large_noise = noise(7, (9 << 20) + 4095);
    put("large noise", &large_noise);
    put("large noise again", &large_noise);
    let mut once = text.len() + small_noise.len() + mixed.len() + large.len() + large_noise.len();
    for (nth, length) in
        [10, 3000, 4096, 5000, 70_000, 131_072, 200_000, 300_000, 1 << 20].into_iter().enumerate()
    {
        let make = if nth % 2 == 0 { words } else { noise };
        let small = make(100 + nth as u64, length);
        put(&format!("a {length}"), &small);
        put(&format!("b {length}"), &small);
        put(&format!("c {length}"), &small);
        once += length;
    }
    once as u64
}

fn check(dir: &Path, options: &BuildOptions) -> u64 {
    let expected = view_dir(dir);
    let (image, report) = built(dir, options);
    assert_eq!(image.len() as u64, report.bytes);
    let found = view_image(&open(&image));
    for (name, seen) in &expected {
        assert!(found.get(name) == Some(seen), "{} with {:?}", name.escape_ascii(), options.compression);
    }
    report.bytes
}

fn ways() -> impl Iterator<Item = BuildOptions> {
    let how = |algorithm, cluster, fragments, inline| {
        Some(Compression { cluster, fragments, inline, ..Compression::new(algorithm) })
    };
    let dense = |algorithm, fragments| {
        let how = Compression { fragments, dense: Some(true), ..Compression::new(algorithm) };
        Some(how)
    };
    [
        (4096, None),
        (512, None),
        (4096, dense(CompressionAlgorithm::Zstd, false)),
        (4096, dense(CompressionAlgorithm::Lz4, true)),
        (4096, how(CompressionAlgorithm::Zstd, 65536, true, false)),
        (4096, how(CompressionAlgorithm::Zstd, 65536, false, false)),
        (4096, how(CompressionAlgorithm::Lz4, 4096, false, false)),
        (4096, how(CompressionAlgorithm::Lz4, 16384, true, false)),
        (4096, how(CompressionAlgorithm::Deflate, 32768, false, true)),
        (1024, how(CompressionAlgorithm::Lz4, 8192, false, true)),
    ]
    .into_iter()
    .map(|(block_size, compression)| BuildOptions {
        block_size,
        compression,
        dedupe: true,
        ..BuildOptions::default()
    })
}

#[test]
fn equal_contents_take_room_once() {
    let dir = tempfile::tempdir().unwrap();
    let once = equals(dir.path());
    let all: u64 = view_dir(dir.path()).values().map(|seen| seen.content.len() as u64).sum();
    assert!(all > 2 * once);
    for options in ways() {
        let with = check(dir.path(), &options);
        let without = built(dir.path(), &BuildOptions { dedupe: false, ..options.clone() }).1.bytes;
        assert!(with < without * 7 / 10, "{with} of {without} with {:?}", options.compression);
        if options.compression.is_none() {
            // What is moved is not found where contents are stored as they are.
            assert!(with < once + (14 << 20), "{with} for {once}");
        }
    }
}

#[test]
fn equal_contents_that_are_compressed_differently_are_not_taken_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let text = words(1, 900_000);
    for name in ["zstd", "deflate", "plain", "zstd again", "deflate again", "plain again"] {
        fs::write(dir.path().join(name), &text).unwrap();
    }
    let compression = |algorithm| Some(Compression { fragments: false, ..Compression::new(algorithm) });
    let rule = |pattern: &str, compression| Rule { pattern: pattern.into(), compression };
    let options = BuildOptions {
        compression: compression(CompressionAlgorithm::Zstd),
        rules: vec![rule("deflate*", compression(CompressionAlgorithm::Deflate)), rule("plain*", None)],
        dedupe: true,
        ..BuildOptions::default()
    };
    let once = check(dir.path(), &options);
    assert!(once < 900_000 * 5 / 2, "{once}");
}

#[test]
fn old_kernels_get_no_shared_clusters() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), words(1, 100_000)).unwrap();
    let lz4 = Compression { fragments: false, ..Compression::new(CompressionAlgorithm::Lz4) };
    let options = BuildOptions {
        dedupe: true,
        fingerprint: false,
        target_kernel: Some(KernelVersion(5, 15)),
        ..BuildOptions::default()
    };
    assert_eq!(built(dir.path(), &options).1.oldest_kernel, KernelVersion::OLDEST);
    let options = BuildOptions { compression: Some(lz4), ..options };
    assert!(options.check().unwrap_err().to_string().contains("shared clusters"));
    let options = BuildOptions { target_kernel: None, ..options };
    assert_eq!(built(dir.path(), &options).1.oldest_kernel, KernelVersion(6, 1));
}

#[test]
fn odd_trees_survive() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    for options in ways() {
        check(dir.path(), &options);
    }
}

#[test]
fn threads_do_not_change_what_is_shared() {
    let dir = tempfile::tempdir().unwrap();
    equals(dir.path());
    // Equals that several threads have in hand at the same time.
    for nth in 0..40 {
        fs::write(dir.path().join(format!("e {nth}")), words(1000 + nth % 4, 900_000)).unwrap();
        fs::write(dir.path().join(format!("f {nth}")), noise(2000 + nth % 4, 900_000)).unwrap();
        fs::write(dir.path().join(format!("g {nth}")), words(3000 + nth % 4, 60_000)).unwrap();
    }
    for options in ways() {
        let build = |threads| {
            built(dir.path(), &BuildOptions { threads: NonZeroUsize::new(threads), ..options.clone() })
        };
        let (image, report) = build(1);
        for threads in [2, 7] {
            let (again, report_again) = build(threads);
            assert!(image == again, "{threads} threads, {:?}", options.compression);
            assert_eq!(report, report_again);
        }
    }
}

#[test]
fn chunks_that_are_equal_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let once = equals(dir.path());
    corner_cases(dir.path());
    // A part of another file, at a multiple of the chunk.
    let text = fs::read(dir.path().join("text")).unwrap();
    fs::write(dir.path().join("inside"), [&vec![0; 1 << 20][..], &text[1 << 20..3 << 20], b"end"].concat())
        .unwrap();
    for (block_size, chunk) in [(4096, 4096), (4096, 65536), (512, 4096), (4096, 2 << 20)] {
        let options = BuildOptions { block_size, chunk: Some(chunk), ..BuildOptions::default() };
        let bytes = check(dir.path(), &options);
        assert!(bytes < once + (18 << 20), "{bytes} for {once}, chunks of {chunk}");
        let build = |threads| {
            built(dir.path(), &BuildOptions { threads: NonZeroUsize::new(threads), ..options.clone() }).0
        };
        assert!(build(1) == build(5));
    }
    for chunk in [0, 2048, 5000, 16 << 20] {
        assert!(BuildOptions { chunk: Some(chunk), ..BuildOptions::default() }.check().is_err());
    }
}
