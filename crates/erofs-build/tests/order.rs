//! Contents lie in the order that was asked for.

mod common;

use std::fs;
use std::path::Path;

use common::{built, open, view_dir, view_image};
use erofs_build::{BuildOptions, DataOrder, Report};
use erofs_image::Place;

fn tree(dir: &Path) {
    for (nth, name) in ["a/x", "a/y", "b/x", "b/y", "c/deep/x", "d/deep/x", "d/z"].into_iter().enumerate() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![u8::try_from(nth).unwrap() + b'0'; 10_000]).unwrap();
    }
}

/// The names of files in the order of their blocks.
fn layout(dir: &Path, order: DataOrder) -> (Vec<String>, Report) {
    let options = BuildOptions { order, ..BuildOptions::default() };
    let (bytes, report) = built(dir, &options);
    let image = open(&bytes);
    assert!(view_image(&image) == view_dir(dir));
    let root = image.inode(image.root_nid()).unwrap();
    let mut places: Vec<_> = image
        .walk(&root)
        .map(Result::unwrap)
        .filter(|entry| entry.inode.is_file())
        .map(|entry| match image.map(&entry.inode, 0).unwrap().place {
            Place::Raw { offset, .. } => (offset, String::from_utf8(entry.path).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    places.sort();
    let names = places.into_iter().map(|(_, name)| name.trim_start_matches('/').to_owned()).collect();
    (names, report)
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
fn versions_of_a_file_follow_one_another() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (names, _) = layout(dir.path(), DataOrder::Similar);
    assert_eq!(names, ["a/x", "a/y", "b/x", "b/y", "c/deep/x", "d/deep/x", "d/z"]);
}
