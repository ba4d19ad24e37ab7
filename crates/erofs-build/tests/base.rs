//! An earlier image saves compression, and changes no byte of the result.

mod common;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use common::{build_to, built, open, view_dir, view_image};
use erofs_build::{BuildOptions, Compression, CompressionAlgorithm, Error, ErrorKind, Report, Rule};
use erofs_image::{EncodedPlace, Image};
use sha2::{Digest, Sha256};

/// A source of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below).unwrap()
    }

    fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 8);
        while text.len() < length {
            text.extend_from_slice(format!("{:x} ", self.next(4000) * 7919).as_bytes());
        }
        text.truncate(length);
        text
    }
}

/// Small files that make several segments of the packed inode, larger ones, equal ones, and one of several parts.
fn tree(root: &Path, small: u64) {
    let mut numbers = Numbers(1);
    for nth in 0..small {
        let dir = root.join(format!("d{}", nth / 100));
        fs::create_dir_all(&dir).unwrap();
        let length = 500 + numbers.next(20_000);
        fs::write(dir.join(format!("small {nth}")), numbers.text(length)).unwrap();
    }
    for nth in 0..8 {
        let length = 150_000 + numbers.next(400_000);
        fs::write(root.join(format!("middle {nth}")), numbers.text(length)).unwrap();
    }
    let noise: Vec<u8> = (0..50_000).flat_map(|_| (numbers.next(1 << 30) as u64).to_le_bytes()).collect();
    let mixed = [numbers.text(100_000), noise[..150_000].to_vec(), numbers.text(70_000), vec![0; 200_000]];
    fs::write(root.join("mixed"), mixed.concat()).unwrap();
    fs::write(root.join("noise"), noise).unwrap();
    fs::copy(root.join("middle 3"), root.join("equal")).unwrap();
    fs::write(root.join("large"), numbers.text(9_000_001)).unwrap();
    fs::write(root.join("large too"), numbers.text(8_500_000)).unwrap();
}

/// Changes, adds, removes and renames some of it.
fn change(root: &Path) {
    let mut numbers = Numbers(2);
    for nth in [7, 11] {
        let path = root.join(format!("d0/small {nth}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"more");
        fs::write(path, bytes).unwrap();
    }
    fs::write(root.join("d0/added"), numbers.text(5000)).unwrap();
    fs::remove_file(root.join("d0/small 20")).unwrap();
    fs::rename(root.join("middle 2"), root.join("renamed")).unwrap();
    fs::write(root.join("middle 5"), numbers.text(300_000)).unwrap();
    let mut bytes = fs::read(root.join("large too")).unwrap();
    bytes[4_000_000] ^= 1;
    fs::write(root.join("large too"), bytes).unwrap();
    for (nth, seconds) in [(1u64, 5), (2, 6)] {
        common::set_mtime(&root.join(format!("d0/small {nth}")), seconds, 0);
    }
}

/// The image with what another has, after it was compared with a clean one.
fn built_over(root: &Path, options: &BuildOptions, base: &Path, threads: &[usize]) -> Report {
    let (clean, _) = built(root, options);
    let mut last = None;
    for threads in threads {
        let base = Some(base.to_owned());
        let options = BuildOptions { base, threads: NonZeroUsize::new(*threads), ..options.clone() };
        let (bytes, report) = built(root, &options);
        assert!(bytes == clean, "with {threads} threads: {:?}", options.compression);
        last = Some(report);
    }
    let found = view_image(&open(&clean));
    assert!(found == view_dir(root), "{:?}", options.compression);
    last.unwrap()
}

fn how(algorithm: CompressionAlgorithm) -> Compression {
    let level = matches!(algorithm, CompressionAlgorithm::Lzma).then_some(0);
    Compression { level, ..Compression::new(algorithm) }
}

fn check(options: &BuildOptions, small: u64, threads: &[usize]) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    tree(&root, small);
    let base = dir.path().join("base");
    build_to(&root, options, &base, false).unwrap();
    change(&root);
    let report = built_over(&root, options, &base, threads);
    assert_eq!(report.base_unused, None);
    report
}

#[test]
fn what_did_not_change_is_taken_with_the_same_bytes_by_every_algorithm() {
    for algorithm in CompressionAlgorithm::ALL {
        let options = BuildOptions { compression: Some(how(algorithm)), ..BuildOptions::default() };
        let is_quick = matches!(algorithm, CompressionAlgorithm::Lz4 | CompressionAlgorithm::Zstd);
        let threads = if is_quick { &[1, 2, 8][..] } else { &[2] };
        let report = check(&options, if is_quick { 1000 } else { 300 }, threads);
        // "large too" did change, and so did what shares a segment with something that did.
        assert!(
            report.taken_bytes * 2 > report.stored_bytes,
            "{algorithm:?}: {} of {}",
            report.taken_bytes,
            report.stored_bytes
        );
    }
}

#[test]
fn so_it_is_where_the_inodes_are_in_a_metabox() {
    let compression = Some(how(CompressionAlgorithm::Zstd));
    let options = BuildOptions { compression, metabox: Some(4096), ..BuildOptions::default() };
    let report = check(&options, 300, &[1, 8]);
    assert!(
        report.taken_bytes * 3 > report.stored_bytes,
        "{} of {}",
        report.taken_bytes,
        report.stored_bytes
    );
}

#[test]
fn so_it_is_with_fragments_or_without_dense_or_not_and_equal_contents_shared() {
    for dedupe in [false, true] {
        for (fragments, inline, dense, cluster) in [
            (false, false, false, 16384),
            (false, true, false, 65536),
            (false, false, true, 65536),
            (true, false, true, 65536),
            (true, false, false, 4096),
            (true, false, false, 65536),
        ] {
            let dense = Some(dense);
            let how = Compression { fragments, inline, dense, cluster, ..how(CompressionAlgorithm::Lz4) };
            let options = BuildOptions { compression: Some(how), dedupe, ..BuildOptions::default() };
            let report = check(&options, 300, &[1, 8]);
            assert!(
                report.taken_bytes * 2 > report.stored_bytes,
                "{dedupe} {:?}: {} of {}",
                options.compression,
                report.taken_bytes,
                report.stored_bytes
            );
        }
    }
}

#[test]
fn so_it_is_where_whole_files_are_fragments() {
    for (algorithm, dedupe) in [
        (CompressionAlgorithm::Lz4, false),
        (CompressionAlgorithm::Zstd, true),
        (CompressionAlgorithm::Lzma, true),
    ] {
        let compression = Some(Compression { all_fragments: true, ..how(algorithm) });
        let options = BuildOptions { compression, dedupe, ..BuildOptions::default() };
        let report = check(&options, 300, &[1, 8]);
        assert!(report.taken_bytes > 0, "{algorithm:?}");
    }
}

#[test]
fn a_rule_decides_by_the_name_that_a_file_had() {
    let rule = |pattern: &str, level| {
        let compression = Compression { fragments: false, level, ..how(CompressionAlgorithm::Zstd) };
        Rule { pattern: pattern.into(), compression: Some(compression) }
    };
    let options = BuildOptions {
        compression: Some(how(CompressionAlgorithm::Zstd)),
        rules: vec![rule("renamed", Some(9)), rule("middle 1", Some(1))],
        ..BuildOptions::default()
    };
    let report = check(&options, 100, &[2]);
    assert!(report.taken_bytes > 0);
}

#[test]
fn an_image_can_be_built_over_itself() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    tree(&root, 100);
    let image = dir.path().join("image");
    let compression = Some(how(CompressionAlgorithm::Lz4));
    let options = BuildOptions { compression, base: Some(image.clone()), ..BuildOptions::default() };
    build_to(&root, &BuildOptions { base: None, ..options.clone() }, &image, false).unwrap();
    change(&root);
    let report = build_to(&root, &options, &image, true).unwrap();
    assert!(report.taken_bytes > 0);
    let clean = built(&root, &BuildOptions { base: None, ..options }).0;
    assert!(fs::read(&image).unwrap() == clean);
}

#[test]
fn images_made_otherwise_are_of_no_use_and_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    tree(&root, 50);
    let usual = how(CompressionAlgorithm::Zstd);
    let options = BuildOptions { compression: Some(usual.clone()), ..BuildOptions::default() };
    let base = dir.path().join("base");
    let changed = |change: &dyn Fn(&mut BuildOptions)| {
        let mut other = options.clone();
        change(&mut other);
        build_to(&root, &other, &base, true).unwrap();
        built_over(&root, &options, &base, &[2])
    };
    let with = |how: Compression| move |options: &mut BuildOptions| options.compression = Some(how.clone());
    for (said, change) in [
        ("level=5", &with(Compression { level: Some(5), ..usual.clone() }) as &dyn Fn(&mut BuildOptions)),
        ("cluster=16384", &with(Compression { cluster: 16384, ..usual.clone() })),
        ("lz4", &with(how(CompressionAlgorithm::Lz4))),
        ("does not say", &|options: &mut BuildOptions| options.compression = None),
        ("dedupe", &|options: &mut BuildOptions| options.dedupe = true),
    ] {
        let report = changed(change);
        assert_eq!(report.taken_bytes, 0);
        let reason = report.base_unused.unwrap();
        assert!(reason.contains(said), "{reason}");
    }
    // The usual level by its number is the usual level.
    let report = changed(&with(Compression { level: Some(3), ..usual.clone() }));
    assert!(report.base_unused.is_none() && report.taken_bytes > 0);

    let base_of = |options: &BuildOptions| BuildOptions { base: Some(base.clone()), ..options.clone() };
    let image = dir.path().join("image");
    let plain = BuildOptions { compression: None, ..base_of(&options) };
    assert_eq!(build_to(&root, &plain, &image, false).unwrap_err().kind(), ErrorKind::Usage);
    build_to(&root, &BuildOptions { fingerprint: false, ..options.clone() }, &base, true).unwrap();
    let error = build_to(&root, &base_of(&options), &image, false).unwrap_err();
    assert!(error.to_string().contains("--no-fingerprint"), "{error}");
    fs::write(&base, b"no image").unwrap();
    let error = build_to(&root, &base_of(&options), &image, false).unwrap_err();
    assert!(matches!(error, Error::Image { .. }), "{error}");
    fs::remove_file(&base).unwrap();
    let error = build_to(&root, &base_of(&options), &image, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(!image.exists());
}

#[test]
fn a_damaged_image_is_an_error_or_does_no_more_harm_than_its_own_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    let mut numbers = Numbers(3);
    for nth in 0..40 {
        let length = 1000 + numbers.next(90_000);
        fs::write(root.join(format!("f{nth}")), numbers.text(length)).unwrap();
    }
    for (dense, fragments, dedupe) in [(false, true, true), (true, true, false), (false, false, false)] {
        let how = Compression { dense: Some(dense), fragments, ..how(CompressionAlgorithm::Lz4) };
        let options = BuildOptions { compression: Some(how), dedupe, ..BuildOptions::default() };
        let base = dir.path().join("base");
        let image = dir.path().join("image");
        build_to(&root, &options, &base, true).unwrap();
        let whole = fs::read(&base).unwrap();
        let options = BuildOptions { base: Some(base.clone()), ..options };
        let mut outcomes = [0; 2];
        for nth in 0..150 {
            let mut bytes = whole.clone();
            if nth % 10 == 0 {
                bytes.truncate(numbers.next(whole.len() as u64));
            } else {
                // Inodes and maps are at the end.
                let from = if nth % 2 == 0 { bytes.len() - 8192.min(bytes.len()) } else { 1200 };
                for _ in 0..=numbers.next(6) {
                    let at = from + numbers.next((bytes.len() - from) as u64);
                    bytes[at] = u8::try_from(numbers.next(256)).unwrap();
                }
            }
            fs::write(&base, bytes).unwrap();
            match build_to(&root, &options, &image, true) {
                Ok(_) => {
                    outcomes[0] += 1;
                    // Its structure is sound; a cluster may be one that was damaged before.
                    let made = fs::read(&image).unwrap();
                    let made = open(&made);
                    let start = made.inode(made.root_nid()).unwrap();
                    for entry in made.walk(&start) {
                        let inode = entry.unwrap().inode;
                        if inode.is_file() {
                            assert!(made.extents(&inode).all(|extent| extent.is_ok()));
                        }
                    }
                }
                Err(error) => {
                    outcomes[1] += 1;
                    assert!(matches!(error, Error::Image { .. } | Error::Option { .. }), "{error}");
                }
            }
        }
        assert!(outcomes[0] > 10 && outcomes[1] > 10, "{outcomes:?}");
    }
}

/// The digest of all clusters of files. Where they lie does not count, and fragments follow one another as they
/// like.
fn clusters(image: &Image) -> String {
    let mut hash = Sha256::new();
    let mut cluster = Vec::new();
    let root = image.inode(image.root_nid()).unwrap();
    for entry in image.walk(&root) {
        let inode = entry.unwrap().inode;
        let Some(mut encoding) = image.encoding(&inode).unwrap().filter(|_| inode.is_file()) else {
            continue;
        };
        let mut at = 0;
        while at < inode.size {
            let extent = encoding.at(at).unwrap();
            at += extent.len;
            hash.update(format!("{} ", extent.len));
            if let EncodedPlace::Cluster { at, len, algorithm } = extent.place {
                cluster.resize(len as usize, 0);
                image.cluster(at, &mut cluster).unwrap();
                hash.update(format!("{algorithm:?} {} ", at.is_inline()));
                hash.update(&cluster);
            }
        }
    }
    let digest = hash.finalize();
    digest.iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn whoever_changes_the_clusters_of_files_changes_the_record() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 30);
    let digests = [(true, false, false), (true, false, true), (false, true, true), (false, true, false)].map(
        |(fragments, inline, dedupe)| {
            let how = Compression { fragments, inline, ..how(CompressionAlgorithm::Lz4) };
            let options = BuildOptions { compression: Some(how), dedupe, ..BuildOptions::default() };
            clusters(&open(&built(dir.path(), &options).0))
        },
    );
    assert_eq!(
        digests,
        ["6e55a0b8dd124d0f", "251af7b134856b35", "08d27e3aa5ba88b7", "70e393e50cac9a16"],
        "files are compressed otherwise than before: count ENCODERS up in src/pack/base/record.rs, unless no release has \
         had the number, and write the new digests here"
    );
}
