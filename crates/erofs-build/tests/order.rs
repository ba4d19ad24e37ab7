//! Contents lie in the order that was asked for.

mod common;

use std::fs;
use std::path::Path;

use common::{built, open, view_dir, view_image};
use erofs_build::{BuildOptions, Compression, CompressionAlgorithm, DataOrder, Report};
use erofs_image::Place;

fn tree(dir: &Path) {
    for (nth, name) in ["a/x", "a/y", "b/x", "b/y", "c/deep/x", "d/deep/x", "d/z"].into_iter().enumerate() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![u8::try_from(nth).unwrap() + b'0'; 10_000]).unwrap();
    }
}

/// The names of files in the order of their contents.
fn layout(dir: &Path, order: DataOrder) -> (Vec<String>, Report) {
    layout_with(dir, &BuildOptions { order, ..BuildOptions::default() })
}

fn layout_with(dir: &Path, options: &BuildOptions) -> (Vec<String>, Report) {
    let (mut files, report) = files(dir, options);
    files.sort_by_key(|(_, offset, _)| *offset);
    (files.into_iter().map(|(name, ..)| name).collect(), report)
}

/// The files' names with the places of their first bytes and their sizes.
fn files(dir: &Path, options: &BuildOptions) -> (Vec<(String, u64, u64)>, Report) {
    let (bytes, report) = built(dir, options);
    let image = open(&bytes);
    assert!(view_image(&image) == view_dir(dir));
    let root = image.inode(image.root_nid()).unwrap();
    let files = image
        .walk(&root)
        .map(Result::unwrap)
        .filter(|entry| entry.inode.is_file())
        .map(|entry| match image.map(&entry.inode, 0).unwrap().place {
            Place::Raw { offset, .. } | Place::Inside { offset, .. } => {
                let name = String::from_utf8(entry.path).unwrap();
                (name.trim_start_matches('/').to_owned(), offset, entry.inode.size)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    (files, report)
}

fn listed(paths: &[&str]) -> DataOrder {
    DataOrder::Listed(paths.iter().map(|path| path.as_bytes().to_vec()).collect())
}

#[test]
fn contents_lie_in_the_order_of_paths() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (names, _) = layout(dir.path(), DataOrder::Path);
    assert_eq!(names, ["a/x", "a/y", "b/x", "b/y", "c/deep/x", "d/z", "d/deep/x"]);
}

#[test]
fn listed_paths_come_first_and_unknown_ones_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (names, report) =
        layout(dir.path(), listed(&["/d/deep", "b/y", "./a/", "no/such", "a/x", "a/x/below"]));
    assert_eq!(names, ["d/deep/x", "b/y", "a/x", "a/y", "b/x", "c/deep/x", "d/z"]);
    assert_eq!(report.unknown_paths, 2);
}

#[test]
fn files_of_one_name_follow_one_another_and_versions_of_a_file_first() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (names, _) = layout(dir.path(), DataOrder::Similar);
    assert_eq!(names, ["a/x", "b/x", "c/deep/x", "d/deep/x", "a/y", "b/y", "d/z"]);
}

#[test]
fn where_small_files_are_compressed_together_those_of_one_name_are_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let compression = Some(Compression::new(CompressionAlgorithm::Zstd));
    let (names, _) = layout_with(dir.path(), &BuildOptions { compression, ..BuildOptions::default() });
    assert_eq!(names, ["a/x", "b/x", "c/deep/x", "d/deep/x", "a/y", "b/y", "d/z"]);
}

/// The place and the size of each file, all of them in blocks of their own.
fn places(dir: &Path, align: u32) -> (Vec<(u64, u64)>, u64) {
    let options = BuildOptions { align: Some(align), inline_tail: Some(0), ..BuildOptions::default() };
    let (files, report) = files(dir, &options);
    (files.into_iter().map(|(_, offset, size)| (offset, size)).collect(), report.bytes)
}

#[test]
fn large_files_start_where_large_pages_do_and_small_ones_fill_the_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let align = 2 << 20;
    let mut all = 0;
    let mut put = |name: String, byte: u8, length: u32| {
        fs::write(dir.path().join(name), vec![byte; length as usize]).unwrap();
        all += u64::from(length);
    };
    for nth in 0..4 {
        let byte = u8::try_from(nth).unwrap() + b'0';
        put(format!("{nth} large"), byte, align + 12_345);
        put(format!("{nth} exact"), byte, align);
        (0..60).for_each(|small| put(format!("{nth} small {small}"), byte, 30_000));
    }
    let (found, bytes) = places(dir.path(), align);
    assert_eq!(found.len(), 248);
    for (offset, size) in &found {
        assert!(*size < u64::from(align) || offset.is_multiple_of(align.into()), "{offset} {size}");
    }
    // The large ones leave almost a large page behind, which the small ones fill.
    assert!(bytes < all + u64::from(align) * 3 / 2, "{bytes} for {all}");

    // Equal files are no reason for gaps.
    let options = BuildOptions { align: Some(align), dedupe: true, ..BuildOptions::default() };
    for nth in 0..5 {
        fs::write(dir.path().join(format!("again {nth}")), vec![b'0'; align as usize + 12_345]).unwrap();
    }
    let (image, report) = built(dir.path(), &options);
    assert!(view_image(&open(&image)) == view_dir(dir.path()));
    assert!(report.bytes < bytes + u64::from(align), "{} after {bytes}", report.bytes);
}

#[test]
fn small_alignments_hold_inside_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    for nth in 1..40u32 {
        fs::write(dir.path().join(nth.to_string()), vec![b'x'; (nth * 3000) as usize]).unwrap();
    }
    let (found, _) = places(dir.path(), 65536);
    assert!(found.iter().all(|(offset, size)| *size < 65536 || offset.is_multiple_of(65536)));
}

#[test]
fn an_alignment_is_a_power_of_two_and_for_whole_files() {
    for align in [0, 2048, 5000, 1 << 31] {
        assert!(BuildOptions { align: Some(align), ..BuildOptions::default() }.check().is_err());
    }
    let chunks = BuildOptions { align: Some(2 << 20), chunk: Some(65536), ..BuildOptions::default() };
    assert!(chunks.check().is_err());
}
