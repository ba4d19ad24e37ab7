//! Chunks in files beside the image, which later images refer to.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::random::noise;
use common::{build_to, corner_cases, view_dir, view_image};
use erofs_build::{BuildOptions, KernelVersion, Report};
use erofs_image::{Image, MemorySource, OpenOptions};

const CHUNK: u32 = 16 << 10;

fn options(blob: Option<PathBuf>, reuse: &[PathBuf]) -> BuildOptions {
    BuildOptions { chunk: Some(CHUNK), blob, reuse: reuse.to_vec(), ..BuildOptions::default() }
}

/// Builds, reads back with the blobs, and compares with the directory.
fn check(source: &Path, image: &Path, options: &BuildOptions) -> Report {
    let report = build_to(source, options, image, true).unwrap();
    let open = |path: &Path| Arc::new(MemorySource::new(fs::read(path).unwrap()));
    let devices =
        options.reuse.iter().chain(&options.blob).map(|path| open(path) as Arc<dyn erofs_image::ReadAt>);
    let opened =
        Image::open(open(image), OpenOptions { devices: devices.collect(), ..OpenOptions::default() })
            .unwrap();
    assert!(view_image(&opened) == view_dir(source));
    // An image with its blobs behind it needs no devices.
    let files = [image].into_iter().chain(options.reuse.iter().chain(&options.blob).map(PathBuf::as_path));
    let whole: Vec<u8> = files.flat_map(|path| fs::read(path).unwrap()).collect();
    let opened = Image::open(Arc::new(MemorySource::new(whole)), OpenOptions::default()).unwrap();
    assert!(view_image(&opened) == view_dir(source));
    report
}

#[test]
fn a_later_image_refers_to_an_older_blob_and_stores_the_rest_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    corner_cases(&source);
    fs::write(source.join("old"), noise(1, 5_000_000)).unwrap();
    fs::write(source.join("small"), noise(2, 100)).unwrap();
    let path = |name: &str| dir.path().join(name);
    let first = check(&source, &path("image1"), &options(Some(path("blob1")), &[]));
    assert!(first.bytes < 600_000, "{}", first.bytes);
    assert_eq!(first.oldest_kernel.max(KernelVersion(5, 16)), first.oldest_kernel);
    let before = fs::read(path("blob1")).unwrap();

    fs::write(source.join("new"), noise(3, 1_000_000)).unwrap();
    fs::rename(source.join("old"), source.join("renamed")).unwrap();
    let second = options(Some(path("blob2")), &[path("blob1")]);
    check(&source, &path("image2"), &second);
    let added = fs::metadata(path("blob2")).unwrap().len();
    assert!((1_000_000..1_100_000).contains(&added), "{added}");
    assert!(fs::read(path("blob1")).unwrap() == before);

    // Without a blob of its own an image holds what is new itself, and nothing new is nothing.
    let third = check(&source, &path("image3"), &options(None, &[path("blob1"), path("blob2")]));
    assert!(third.bytes < 600_000, "{}", third.bytes);
}

#[test]
fn a_blob_is_never_replaced_and_another_file_never_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), noise(1, 100_000)).unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("there"), b"something").unwrap();
    build_to(&source, &options(Some(path("there")), &[]), &path("image"), true).unwrap_err();
    assert_eq!(fs::read(path("there")).unwrap(), b"something");
    build_to(&source, &options(Some(path("blob")), &[]), &path("image"), true).unwrap();
    let blob = fs::read(path("blob")).unwrap();
    for (name, bytes) in [
        ("short", blob[..blob.len() - 1].to_vec()),
        ("cut", blob[..blob.len() - 4096].to_vec()),
        ("moved", [&[0; 4096][..], &blob].concat()),
        ("empty", Vec::new()),
    ] {
        fs::write(path(name), bytes).unwrap();
        let error = build_to(&source, &options(None, &[path(name)]), &path("again"), true).unwrap_err();
        assert!(error.to_string().starts_with("reuse: "), "{name}: {error}");
        assert!(!path("again").exists());
    }
    let no_chunks = BuildOptions { chunk: None, ..options(Some(path("b")), &[]) };
    assert!(no_chunks.check().is_err());
}
