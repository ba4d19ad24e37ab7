//! Trees on disk and in images, compared.
#![allow(missing_docs)]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use erofs_build::{BuildOptions, DirSource, Output, Silent, build};
use erofs_diff::{Change, Diff, Event, Fields, Kind, Options, Root};
use erofs_image::{Image, MemorySource, OpenOptions};

fn image(tree: &Path) -> Root {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut output = Output::create(&path, false).unwrap();
    output.set_durable(false);
    build(&BuildOptions::default(), DirSource::open(tree).unwrap(), &mut output, &Silent).unwrap();
    drop(output);
    let source = MemorySource::new(fs::read(path).unwrap());
    let image = Image::open(Arc::new(source), OpenOptions::default()).unwrap();
    Root::in_image(Arc::new(image), b"/").unwrap()
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn disk(dir: &tempfile::TempDir) -> Root {
    Root::on_disk(dir.path()).unwrap()
}

fn options() -> Options {
    let mut options = Options::default();
    options.ignore = Fields::MTIME;
    options
}

fn changes(a: Root, b: Root, options: Options) -> Vec<Change> {
    let events = Diff::start(a, b, options).unwrap();
    events
        .map(|event| match event {
            Event::Change(change) => change,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_was_added_removed_changed_and_moved_is_told_apart() {
    let old = tree(&[("a/gone", "1"), ("a/same", "22"), ("a/other", "333"), ("b/from", "4444")]);
    let new = tree(&[("a/same", "22"), ("a/other", "33x"), ("b/to", "4444"), ("c/new", "55555")]);
    let found: Vec<_> = changes(image(old.path()), disk(&new), options())
        .into_iter()
        .map(|change| (change.kind, String::from_utf8(change.path.into()).unwrap(), change.from))
        .collect();
    let from = Some(Box::from(&b"b/from"[..]));
    assert_eq!(
        found,
        [
            (Kind::Removed, "a/gone".into(), None),
            (Kind::Changed, "a/other".into(), None),
            (Kind::Moved, "b/to".into(), from),
            (Kind::Added, "c".into(), None),
            (Kind::Added, "c/new".into(), None),
        ]
    );
}

#[test]
fn directories_too_deep_to_keep_open_are_compared_too() {
    let deep = format!("{}file", "d/".repeat(300));
    let old = tree(&[(&deep, "one")]);
    let new = tree(&[(&deep, "two")]);
    let found = changes(disk(&old), disk(&new), options());
    assert_eq!(found.len(), 1);
    assert_eq!(&*found[0].path, deep.as_bytes());
    assert_eq!(found[0].fields, Fields::CONTENT);
}

#[test]
fn a_comparison_that_nobody_waits_for_ends() {
    let files: Vec<_> = (0..5000).map(|number| format!("{}/{number}", number % 50)).collect();
    let files: Vec<_> = files.iter().map(|name| (name.as_str(), "x")).collect();
    let (old, new) = (tree(&files), tree(&[]));
    let mut options = options();
    options.move_limit = 0;
    options.threads = NonZeroUsize::new(2).unwrap();
    let mut diff = Diff::start(disk(&old), disk(&new), options).unwrap();
    assert!(diff.next().is_some());
    drop(diff);
}

#[test]
fn a_single_file_is_a_tree() {
    let dir = tree(&[("one", "same"), ("two", "same"), ("three", "else")]);
    let root = |name: &str| Root::on_disk(&dir.path().join(name)).unwrap();
    assert!(changes(root("one"), root("two"), options()).is_empty());
    let found = changes(root("one"), root("three"), options());
    assert_eq!((found.len(), found[0].fields), (1, Fields::CONTENT));
    assert!(Root::on_disk(&dir.path().join("none")).is_err());
}
