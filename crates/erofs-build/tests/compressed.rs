//! Trees come back out of compressed images as they were.

mod common;

use std::fs;
use std::num::NonZeroUsize;

use common::{built, corner_cases, open, view_dir, view_image};
use erofs_build::{BuildOptions, Compression, CompressionAlgorithm, Feature, KernelVersion};
use erofs_image::{EncodedPlace, Inode};

fn options(how: &Compression) -> BuildOptions {
    let level = matches!(how.algorithm, CompressionAlgorithm::Lzma).then_some(0);
    let how = Compression { level: how.level.or(level), ..how.clone() };
    BuildOptions { compression: Some(how), ..BuildOptions::default() }
}

/// A tree with files that need several clusters, parts and segments.
fn large_cases(dir: &std::path::Path) {
    let mut state = 5u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let words: Vec<String> = (0..500).map(|_| format!("{:x} ", random())).collect();
    let mut text = |length: usize| {
        let mut text = String::new();
        while text.len() < length {
            text.push_str(&words[usize::try_from(random() % 500).unwrap()]);
        }
        text.truncate(length);
        text.into_bytes()
    };
    let noise: Vec<u8> =
        (0..300_000u64).flat_map(|nth| nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    fs::write(dir.join("text"), text(19_000_001)).unwrap();
    fs::write(dir.join("noise"), &noise).unwrap();
    fs::write(dir.join("zeros"), vec![0; 30 << 20]).unwrap();
    fs::write(
        dir.join("mixed"),
        [text(300_000), noise[..200_000].to_vec(), text(5), vec![0; 70_000]].concat(),
    )
    .unwrap();
    for length in [4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 8 << 20, (8 << 20) + 1] {
        fs::write(dir.join(format!("text {length}")), text(length)).unwrap();
        fs::write(dir.join(format!("noise {length}")), &noise[..length.min(noise.len())]).unwrap();
    }
}

fn check(dir: &std::path::Path, options: &BuildOptions) -> usize {
    let expected = view_dir(dir);
    let (bytes, report) = built(dir, options);
    assert_eq!(bytes.len() as u64, report.bytes);
    let found = view_image(&open(&bytes));
    for (name, seen) in &expected {
        assert!(found.get(name) == Some(seen), "{} with {:?}", name.escape_ascii(), options.compression);
    }
    assert_eq!(found.len(), expected.len());
    bytes.len()
}

#[test]
fn every_algorithm_and_cluster_size_keeps_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    for algorithm in CompressionAlgorithm::ALL {
        for (block_size, cluster) in
            [(4096, 4096), (4096, 65536), (4096, 1 << 20), (512, 4096), (16384, 16384)]
        {
            for (fragments, inline, dense) in [
                (false, false, false),
                (true, false, false),
                (false, true, false),
                (false, true, true),
                (true, false, true),
            ] {
                let dense = Some(dense);
                let how = Compression { cluster, fragments, inline, dense, ..Compression::new(algorithm) };
                let options = BuildOptions { block_size, ..options(&how) };
                check(dir.path(), &options);
            }
        }
    }
}

#[test]
fn large_files_are_compressed_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    large_cases(dir.path());
    let content: u64 = view_dir(dir.path()).values().map(|seen| seen.content.len() as u64).sum();
    for algorithm in CompressionAlgorithm::ALL {
        let length = |fragments, dense| {
            let how = Compression { fragments, dense, ..Compression::new(algorithm) };
            let length = check(dir.path(), &options(&how)) as u64;
            assert!(length < content * 2 / 3, "{algorithm:?}: {length} of {content}");
            length
        };
        length(true, None);
        length(true, Some(true));
        assert!(length(false, Some(true)) < length(false, None));
    }
}

#[test]
fn whole_files_are_fragments_if_all_are_to_be() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    large_cases(dir.path());
    for algorithm in CompressionAlgorithm::ALL {
        for (dedupe, dense, metabox) in
            [(false, None, None), (true, None, None), (true, Some(true), None), (false, None, Some(4096))]
        {
            let how = Compression { all_fragments: true, dense, ..Compression::new(algorithm) };
            let options = BuildOptions { dedupe, metabox, ..options(&how) };
            check(dir.path(), &options);
            let is_quick = matches!(algorithm, CompressionAlgorithm::Lz4 | CompressionAlgorithm::Zstd);
            if !is_quick {
                continue;
            }
            let images = [1, 2, 8].map(|threads| {
                built(dir.path(), &BuildOptions { threads: NonZeroUsize::new(threads), ..options.clone() }).0
            });
            assert!(images[0] == images[1] && images[0] == images[2], "{how:?}");
        }
    }
}

#[test]
fn equal_files_are_one_fragment() {
    let dir = tempfile::tempdir().unwrap();
    large_cases(dir.path());
    let text = fs::read(dir.path().join("text")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for nth in 0..20 {
        fs::write(dir.path().join(format!("{nth}")), &text[nth * 1000..][..1_500_000 + nth]).unwrap();
    }
    let how =
        Compression { all_fragments: true, cluster: 4096, ..Compression::new(CompressionAlgorithm::Lz4) };
    let options = BuildOptions { dedupe: true, ..options(&how) };
    let once = check(dir.path(), &options);
    for nth in 0..20 {
        fs::copy(dir.path().join(format!("{nth}")), dir.path().join(format!("again {nth}"))).unwrap();
    }
    let twice = check(dir.path(), &options);
    assert!(twice <= once + 4096, "{once} and {twice}");
    let image = open(&built(dir.path(), &options).0);
    let root = image.inode(image.root_nid()).unwrap();
    for inode in image.walk(&root).map(|entry| entry.unwrap().inode).filter(Inode::is_file) {
        let extent = image.encoding(&inode).unwrap().unwrap().at(0).unwrap();
        assert_eq!(extent.len, inode.size);
        assert!(!matches!(extent.place, EncodedPlace::Cluster { .. }));
    }
}

#[test]
fn all_fragments_need_fragments() {
    let dir = tempfile::tempdir().unwrap();
    let how =
        Compression { all_fragments: true, fragments: false, ..Compression::new(CompressionAlgorithm::Zstd) };
    let error = common::build_to(dir.path(), &options(&how), &dir.path().join("image"), false);
    assert!(error.unwrap_err().to_string().contains("all-fragments"));
}

#[test]
fn compression_makes_no_file_larger() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> =
        (0..5000u64).flat_map(|nth| nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    for nth in 0..300 {
        fs::write(dir.path().join(format!("{nth}")), &noise[nth..nth + 4000 + nth * 97]).unwrap();
    }
    let plain = check(dir.path(), &BuildOptions::default());
    for algorithm in CompressionAlgorithm::ALL {
        for inline in [false, true] {
            let how = Compression { fragments: false, inline, ..Compression::new(algorithm) };
            let compressed = check(dir.path(), &options(&how));
            assert!(compressed <= plain, "{algorithm:?} {inline}: {compressed} and {plain}");
        }
    }
}

#[test]
fn threads_do_not_change_a_compressed_image() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    large_cases(dir.path());
    for (algorithm, dense) in [
        (CompressionAlgorithm::Zstd, None),
        (CompressionAlgorithm::Lz4, None),
        (CompressionAlgorithm::Lz4, Some(true)),
    ] {
        let images: Vec<_> = [1, 2, 7]
            .into_iter()
            .map(|threads| {
                let how = Compression { dense, ..Compression::new(algorithm) };
                let options = BuildOptions { threads: NonZeroUsize::new(threads), ..options(&how) };
                built(dir.path(), &options).0
            })
            .collect();
        assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn the_oldest_kernel_follows_from_the_compression() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), vec![b'x'; 100_000]).unwrap();
    for (algorithm, cluster, fragments, kernel) in [
        (CompressionAlgorithm::Lz4, 4096, false, KernelVersion(5, 4)),
        (CompressionAlgorithm::Lz4, 65536, false, KernelVersion(5, 13)),
        (CompressionAlgorithm::Lzma, 65536, false, KernelVersion(5, 16)),
        (CompressionAlgorithm::Lzma, 65536, true, KernelVersion(6, 1)),
        (CompressionAlgorithm::Deflate, 65536, true, KernelVersion(6, 6)),
        (CompressionAlgorithm::Zstd, 65536, true, KernelVersion(6, 10)),
    ] {
        let how = Compression { cluster, fragments, ..Compression::new(algorithm) };
        let options = BuildOptions { fingerprint: false, ..options(&how) };
        assert_eq!(built(dir.path(), &options).1.oldest_kernel, kernel);
        let older = KernelVersion(kernel.0, kernel.1.wrapping_sub(1));
        let options = BuildOptions { target_kernel: Some(older), ..options };
        assert!(options.check().is_err() || older < KernelVersion::OLDEST);
    }
}

#[test]
fn clusters_that_linux_does_not_read_are_refused() {
    for cluster in [0, 2048, 5000, 2 << 20] {
        let how = Compression { cluster, ..Compression::new(CompressionAlgorithm::Zstd) };
        assert!(options(&how).check().is_err(), "{cluster}");
    }
    let how = Compression { level: Some(99), ..Compression::new(CompressionAlgorithm::Zstd) };
    let error = options(&how).check().unwrap_err().to_string();
    assert_eq!(error, "compress: zstd has no level 99, only 1 to 22");
}

#[test]
fn clusters_of_any_length_are_for_new_kernels_without_fragments_or_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), vec![b'x'; 100_000]).unwrap();
    let (old, new) = (Some(KernelVersion(6, 14)), Some(KernelVersion(6, 15)));
    for (dense, fragments, target_kernel, expected) in [
        (None, false, None, false),
        (None, false, old, false),
        (None, false, new, true),
        (None, true, new, false),
        (Some(true), true, None, true),
        (Some(false), false, new, false),
    ] {
        let how = Compression { dense, fragments, ..Compression::new(CompressionAlgorithm::Zstd) };
        let report = built(dir.path(), &BuildOptions { target_kernel, ..options(&how) }).1;
        assert_eq!(report.features.contains(&Feature::EncodedExtents), expected, "{how:?} {target_kernel:?}");
    }
    let how = Compression { dense: Some(true), ..Compression::new(CompressionAlgorithm::Zstd) };
    let error = BuildOptions { target_kernel: old, ..options(&how) }.check().unwrap_err().to_string();
    assert!(error.contains("encoded extents need Linux 6.15"), "{error}");
}

#[test]
fn inodes_come_back_out_of_a_metabox() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    // More than a block of names, and xattrs that would be shared.
    let many = dir.path().join("many");
    fs::create_dir(&many).unwrap();
    for nth in 0..2000 {
        let name = many.join(format!("a name that is rather long, with the number {nth}"));
        if nth % 3 == 0 {
            fs::create_dir(&name).unwrap();
        } else {
            fs::write(&name, b"same").unwrap();
        }
        // Not every filesystem has them.
        let _ = rustix::fs::setxattr(&name, "user.same", b"same value", rustix::fs::XattrFlags::empty());
    }
    for algorithm in CompressionAlgorithm::ALL {
        for (block_size, cluster, metabox) in [
            (4096, 65536, 4096),
            (4096, 4096, 65536),
            (4096, 4096, 4096),
            (512, 4096, 512),
            (16384, 16384, 16384),
        ] {
            for (fragments, inline, dense) in
                [(true, false, None), (false, true, None), (false, false, Some(true))]
            {
                let how = Compression { cluster, fragments, inline, dense, ..Compression::new(algorithm) };
                let options = BuildOptions { block_size, metabox: Some(metabox), ..options(&how) };
                let with = check(dir.path(), &options);
                let without = built(dir.path(), &BuildOptions { metabox: None, ..options }).0.len();
                assert!(with < without, "{with} and {without}: {how:?}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_metabox() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    large_cases(dir.path());
    let options = BuildOptions {
        metabox: Some(4096),
        dedupe: true,
        ..options(&Compression::new(CompressionAlgorithm::Zstd))
    };
    let images = [1, 2, 8].map(|threads| {
        built(dir.path(), &BuildOptions { threads: NonZeroUsize::new(threads), ..options.clone() })
    });
    assert!(images.windows(2).all(|pair| pair[0].0 == pair[1].0));
    assert_eq!(images[0].1.oldest_kernel, KernelVersion(6, 17));
    assert!(images[0].1.features.contains(&Feature::Metabox));
    assert_eq!(images[0].1.target_kernel, KernelVersion(6, 18));
}

#[test]
fn a_metabox_without_inodes_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        BuildOptions { metabox: Some(4096), ..options(&Compression::new(CompressionAlgorithm::Zstd)) };
    let (_, report) = built(dir.path(), &options);
    assert!(!report.features.contains(&Feature::Metabox));
    check(dir.path(), &options);
}

#[test]
fn a_metabox_that_cannot_be_is_refused() {
    let zstd = options(&Compression::new(CompressionAlgorithm::Zstd));
    let refused = |options: BuildOptions| options.check().unwrap_err().to_string();
    let older =
        BuildOptions { target_kernel: Some(KernelVersion(6, 16)), metabox: Some(4096), ..zstd.clone() };
    assert!(refused(older).contains("compressed inodes need Linux 6.17"));
    for size in [0, 2048, 6000, 2 << 20] {
        let error = refused(BuildOptions { metabox: Some(size), ..zstd.clone() });
        assert!(error.contains("metabox") && error.contains("not a multiple of the block size"), "{error}");
    }
    let plain = BuildOptions { metabox: Some(4096), ..BuildOptions::default() };
    assert!(refused(plain).contains("is only for images that are compressed"));
}
