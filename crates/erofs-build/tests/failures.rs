//! What goes wrong is told with its place, and leaves nothing behind.

mod common;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use common::{build_to, built, open, view_image};
use erofs_build::{
    BuildOptions, DirSource, Error, ErrorKind, IdRange, KernelVersion, Output, Owners, Phase, Progress,
    Silent, build,
};

/// Does something to the tree when a phase begins.
struct Meanwhile<F>(Phase, F);

impl<F: Fn() + Sync> Progress for Meanwhile<F> {
    fn phase(&self, phase: Phase, _files: u64, _bytes: u64) {
        if phase == self.0 {
            self.1();
        }
    }

    fn advance(&self, _files: u64, _bytes: u64) {}

    fn stored(&self, _bytes: u64) {}
}

/// A source with a small and a large file, and a place for the image.
fn setting() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/small"), b"small").unwrap();
    fs::write(source.join("sub/large"), vec![7; 3 << 20]).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    (dir, source, out)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Builds while `change` happens between the scan and the reading of files.
fn build_changing(change: impl Fn(&Path) + Sync) -> Error {
    let (_dir, source, out) = setting();
    let mut output = Output::create(out.join("image"), false).unwrap();
    let progress = Meanwhile(Phase::Pack, || change(&source));
    let tree = DirSource::open(&source).unwrap();
    let error = build(&BuildOptions::default(), tree, &mut output, &progress).unwrap_err();
    drop(output);
    assert!(names(&out).is_empty(), "something was left behind");
    error
}

type Change<'a> = &'a (dyn Fn(&Path) + Sync);

#[test]
fn a_file_that_changes_while_it_is_packed_is_named() {
    let append = |path: &Path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
    let changes: [(&str, Change<'_>, &str); 6] = [
        ("sub/large", &|root| append(&root.join("sub/large")), "changed its size"),
        ("sub/small", &|root| append(&root.join("sub/small")), "changed its size"),
        ("sub/large", &|root| fs::write(root.join("sub/large"), b"").unwrap(), "became shorter"),
        ("sub/small", &|root| fs::remove_file(root.join("sub/small")).unwrap(), "vanished"),
        (
            "sub/small",
            &|root| {
                fs::write(root.join("new"), b"small").unwrap();
                fs::rename(root.join("new"), root.join("sub/small")).unwrap();
            },
            "replaced",
        ),
        (
            "sub/small",
            &|root| {
                fs::remove_file(root.join("sub/small")).unwrap();
                std::os::unix::fs::symlink("large", root.join("sub/small")).unwrap();
            },
            "became something else",
        ),
    ];
    for (name, change, what) in changes {
        let error = build_changing(change);
        assert!(matches!(error, Error::Changed { .. }), "{error}");
        assert!(error.path().unwrap().ends_with(name), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Source, 116));
    }
}

#[test]
fn a_directory_that_vanishes_is_told() {
    let error = build_changing(|root| fs::rename(root.join("sub"), root.join("gone")).unwrap());
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}

#[test]
fn cancelling_leaves_nothing() {
    let (_dir, source, out) = setting();
    for phase in [Phase::Scan, Phase::Plan, Phase::Pack, Phase::Finish] {
        let options = BuildOptions::default();
        let mut output = Output::create(out.join("image"), false).unwrap();
        let progress = Meanwhile(phase, || options.cancel.store(true, Ordering::Relaxed));
        let error = build(&options, DirSource::open(&source).unwrap(), &mut output, &progress).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{phase:?}: {error}");
        drop(output);
        assert!(names(&out).is_empty());
    }
}

#[test]
fn an_existing_image_is_replaced_only_when_asked_and_only_by_a_whole_one() {
    let (_dir, source, out) = setting();
    let image = out.join("image");
    fs::write(&image, b"old").unwrap();
    let options = BuildOptions::default();
    let error = build_to(&source, &options, &image, false).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(error.errno(), 17);

    let mut output = Output::create(&image, true).unwrap();
    let break_it = || fs::remove_file(source.join("sub/small")).unwrap();
    let progress = Meanwhile(Phase::Pack, break_it);
    build(&options, DirSource::open(&source).unwrap(), &mut output, &progress).unwrap_err();
    drop(output);
    assert_eq!(fs::read(&image).unwrap(), b"old");

    build_to(&source, &options, &image, true).unwrap();
    assert_eq!(names(&out), ["image"]);
    assert!(view_image(&open(&fs::read(&image).unwrap())).contains_key(&b"sub/large"[..]));
}

#[test]
fn an_image_that_appears_meanwhile_is_not_overwritten() {
    let (_dir, source, out) = setting();
    let image = out.join("image");
    let mut output = Output::create(&image, false).unwrap();
    let progress = Meanwhile(Phase::Finish, || fs::write(&image, b"other").unwrap());
    let tree = DirSource::open(&source).unwrap();
    let error = build(&BuildOptions::default(), tree, &mut output, &progress).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(fs::read(&image).unwrap(), b"other");
}

#[test]
fn only_files_are_replaced() {
    let (_dir, source, out) = setting();
    fs::create_dir(out.join("dir")).unwrap();
    std::os::unix::fs::symlink("x", out.join("link")).unwrap();
    for name in ["dir", "link", "new/", ".."] {
        let error = Output::create(format!("{}/{name}", out.display()), true).unwrap_err();
        assert!(matches!(error, Error::NotAFile { .. }), "{name}: {error}");
    }
    let error = Output::create(out.join("missing/image"), false).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, 2));
    let error = DirSource::open(source.join("sub/small")).unwrap_err();
    assert_eq!(error.errno(), 20);
}

#[test]
fn an_image_inside_the_source_does_not_hold_itself() {
    let (_dir, source, _) = setting();
    let image = source.join("sub/image");
    for force in [false, true] {
        build_to(&source, &BuildOptions::default(), &image, force).unwrap();
        let view = view_image(&open(&fs::read(&image).unwrap()));
        assert!(view.contains_key(&b"sub/small"[..]));
        assert!(!view.contains_key(&b"sub/image"[..]));
    }
}

#[test]
fn a_stream_gets_the_same_bytes_or_none() {
    let (_dir, source, out) = setting();
    let options = BuildOptions::default();
    build_to(&source, &options, &out.join("image"), false).unwrap();
    let mut bytes = Vec::new();
    let mut output = Output::stream(&mut bytes).unwrap();
    build(&options, DirSource::open(&source).unwrap(), &mut output, &Silent).unwrap();
    drop(output);
    assert!(bytes == fs::read(out.join("image")).unwrap());

    let mut bytes = Vec::new();
    let mut output = Output::stream(&mut bytes).unwrap();
    let progress = Meanwhile(Phase::Pack, || fs::remove_file(source.join("sub/small")).unwrap());
    build(&options, DirSource::open(&source).unwrap(), &mut output, &progress).unwrap_err();
    drop(output);
    assert!(bytes.is_empty());
}

#[test]
fn a_full_stream_is_an_error_of_input_and_output() {
    let (_dir, source, _) = setting();
    let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut output = Output::stream(&mut full).unwrap();
    let tree = DirSource::open(&source).unwrap();
    let error = build(&BuildOptions::default(), tree, &mut output, &Silent).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, 28));
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull));
}

#[test]
fn excluded_names_are_left_out_with_what_is_below() {
    let (_dir, source, _) = setting();
    fs::create_dir(source.join("cache")).unwrap();
    fs::write(source.join("cache/x"), b"x").unwrap();
    fs::hard_link(source.join("sub/small"), source.join("linked.tmp")).unwrap();
    let options = BuildOptions {
        excludes: ["cache/", "*.tmp", "/large"].map(String::from).into(),
        ..BuildOptions::default()
    };
    let (bytes, report) = built(&source, &options);
    let view = view_image(&open(&bytes));
    let names: Vec<_> = view.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, ["", "sub", "sub/large", "sub/small"]);
    // A link that was left out does not count.
    assert_eq!(view[&b"sub/small"[..]].nlink, 1);
    assert_eq!((report.excluded, report.hard_links), (2, 0));
}

#[test]
fn owners_and_times_are_as_asked() {
    let (_dir, source, _) = setting();
    let owner = built(&source, &BuildOptions::default());
    let (uid, gid) = view_image(&open(&owner.0))[&b"sub"[..]].owner;
    let look = |owners: Owners| {
        let (bytes, _) = built(&source, &BuildOptions { owners, ..BuildOptions::default() });
        view_image(&open(&bytes))[&b"sub/small"[..]].owner
    };
    let range = |from| IdRange { from, to: 100_000, count: 1 };
    assert_eq!(look(Owners { all_root: true, ..Owners::default() }), (0, 0));
    assert_eq!(look(Owners { uid_map: vec![range(uid)], ..Owners::default() }), (100_000, gid));
    assert_eq!(look(Owners { gid_offset: 70_000, ..Owners::default() }), (uid, gid + 70_000));
    assert_eq!(look(Owners { force_uid: Some(5), ..Owners::default() }), (5, gid));

    let options = BuildOptions {
        owners: Owners { uid_offset: -1 - i64::from(uid), ..Owners::default() },
        ..BuildOptions::default()
    };
    let error = common::build_to(&source, &options, &source.join("image"), false).unwrap_err();
    assert!(matches!(error, Error::Owner { what: "uid", id: -1, .. }), "{error}");

    let mut options = BuildOptions::default();
    options.times.source_date_epoch = Some(1_000_000);
    common::set_mtime(&source.join("sub/small"), 999_999, 7);
    let (bytes, report) = built(&source, &options);
    let view = view_image(&open(&bytes));
    assert_eq!(view[&b"sub/small"[..]].mtime, (999_999, 7));
    assert_eq!(view[&b"sub/large"[..]].mtime, (1_000_000, 0));
    assert_eq!(report.build_time, 1_000_000);
}

#[test]
fn features_that_the_target_lacks_are_named_with_the_remedy() {
    let (_dir, source, out) = setting();
    let refuse = |options: BuildOptions| build_to(&source, &options, &out.join("image"), false).unwrap_err();
    let target = |target: (u32, u32)| BuildOptions {
        target_kernel: Some(KernelVersion(target.0, target.1)),
        ..BuildOptions::default()
    };
    let error = refuse(target((6, 1)));
    assert_eq!(
        error.to_string(),
        "fingerprints need Linux 6.4, the target is 6.1: build without fingerprints"
    );
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, 95));
    for (options, expected) in [
        (BuildOptions { block_size: 512, fingerprint: false, ..target((6, 1)) }, "4096-byte blocks"),
        (BuildOptions { label: [b'x'; 16].into(), ..target((6, 4)) }, "at most 15 bytes"),
        (target((4, 19)), "5.4 is the first"),
        (BuildOptions { block_size: 1000, ..BuildOptions::default() }, "not a power of two"),
        (BuildOptions { label: [b'x'; 17].into(), ..BuildOptions::default() }, "17 bytes"),
        (BuildOptions { excludes: vec!["a[z-a]".into()], ..BuildOptions::default() }, "a[z-a]"),
    ] {
        let error = refuse(options);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
