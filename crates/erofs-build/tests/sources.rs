//! Trees that come from several sources.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::archives::{archive, build_from, file, header, stream, view};
use common::{View, built, corner_cases, open, view_image};
use erofs_build::{
    BuildOptions, DirSource, EntriesSource, Error, ErrorKind, ImageSource, SourceEntry, SourceKind, Sources,
    TarSource, Whiteouts, XattrPolicy,
};

fn layers() -> Sources {
    let base = archive(&[
        header("./", b'5', 0, "").to_vec(),
        file("etc/a", b"a0"),
        file("etc/b", b"b0"),
        file("usr/x", b"x0"),
        file("usr/sub/y", b"y0"),
        file("opt/z", b"z0"),
        header("file", b'5', 0, "").to_vec(),
    ]);
    let middle = archive(&[
        file("etc/.wh.a", b""),
        file("etc/c", b"c1"),
        file("usr/.wh..wh..opq", b""),
        file("usr/new", b"n1"),
        file(".wh.opt", b""),
        file("opt/own", b"o1"),
        file(".wh..wh.plnk", b""),
        file("file", b"a file"),
    ]);
    let newest = archive(&[file("etc/a", b"a2"), file("etc/.wh.c", b"")]);
    let mut sources = Sources::new();
    for layer in [base, middle, newest] {
        sources.push(stream(&layer));
    }
    sources
}

fn files(view: &View) -> Vec<String> {
    let files = view.iter().filter(|(_, seen)| seen.mode & 0o170_000 != 0o040_000);
    files
        .map(|(path, seen)| {
            format!("{}={}", String::from_utf8_lossy(path), String::from_utf8_lossy(&seen.content))
        })
        .collect()
}

#[test]
fn whiteouts_hide_what_lies_below_and_the_newest_wins() {
    let options = BuildOptions { whiteouts: Whiteouts::Apply, ..BuildOptions::default() };
    let view = view(layers(), &options);
    assert_eq!(files(&view), ["etc/a=a2", "etc/b=b0", "file=a file", "opt/own=o1", "usr/new=n1"]);
    assert_eq!(view[&b""[..]].mode, 0o40644);
}

#[test]
fn whiteouts_can_be_kept_for_overlayfs() {
    let options = BuildOptions { whiteouts: Whiteouts::Overlay, ..BuildOptions::default() };
    let seen = view(layers(), &options);
    assert_eq!(seen[&b"etc/c"[..]].mode, 0o20000);
    assert_eq!(seen[&b"etc/c"[..]].content, [0; 4]);
    // Owner and time of what says so, as container runtimes and mkfs.erofs have them.
    assert_eq!((seen[&b"etc/c"[..]].owner, seen[&b"etc/c"[..]].mtime), ((1000, 1000), (100, 0)));
    assert_eq!(seen[&b"usr"[..]].xattrs[&b"trusted.overlay.opaque"[..]], b"y");
    assert_eq!(seen[&b"opt"[..]].xattrs[&b"trusted.overlay.opaque"[..]], b"y");
    assert!(!seen[&b"etc"[..]].xattrs.contains_key(&b"trusted.overlay.opaque"[..]));
    // overlayfs looks for whiteouts where this is, whether other layers have the directory or not.
    let marked = seen.iter().filter(|(_, seen)| seen.xattrs.contains_key(&b"trusted.overlay.origin"[..]));
    assert_eq!(marked.map(|(path, _)| &path[..]).collect::<Vec<_>>(), [b"etc"]);
    // What was kept is understood again.
    let mut sources = Sources::new();
    sources.push(stream(&archive(&[file("etc/c", b"c"), file("usr/old", b"old")])));
    let image = build_from(layers(), &options).unwrap();
    let image = erofs_image::Image::open(
        Arc::new(erofs_image::MemorySource::new(image)),
        erofs_image::OpenOptions::default(),
    );
    sources.push(ImageSource::new(Arc::new(image.unwrap()), "layer.erofs"));
    let apply = BuildOptions { whiteouts: Whiteouts::Apply, ..BuildOptions::default() };
    let seen = view(sources, &apply);
    assert!(!seen.contains_key(&b"etc/c"[..]) && !seen.contains_key(&b"usr/old"[..]));
    assert!(seen[&b"usr"[..]].xattrs.is_empty() && seen[&b"etc"[..]].xattrs.is_empty());
}

#[test]
fn an_entry_below_what_an_older_source_says_is_no_directory_is_refused() {
    let mut sources = Sources::new();
    sources.push(stream(&archive(&[header("lib", b'2', 0, "usr/lib").to_vec()])));
    sources.push(TarSource::from_stream(std::io::Cursor::new(archive(&[file("lib/x", b"")])), "over.tar"));
    let error = build_from(sources, &BuildOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stream.tar/lib: is no directory, but over.tar/lib lies over it and has entries"
    );
}

#[test]
fn an_image_is_built_anew_from_an_image_with_other_options() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    corner_cases(&tree);
    let plain = BuildOptions::default();
    let expected = built(&tree, &plain).0;
    for compression in [None, Some(erofs_build::Compression::new(erofs_build::CompressionAlgorithm::Lz4))] {
        let path = dir.path().join("first.erofs");
        fs::write(&path, built(&tree, &BuildOptions { compression, block_size: 8192, ..plain.clone() }).0)
            .unwrap();
        let again = build_from(Sources::open(&path).unwrap(), &plain).unwrap();
        assert!(view_image(&open(&again)) == view_image(&open(&expected)));
    }
}

#[test]
fn an_image_with_paths_over_4096_bytes_is_built_anew_from_itself() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // No system call takes the whole path: one directory at a time is moved below another.
    let name = "d".repeat(250);
    let inner = dir.path().join("inner");
    for depth in 0..40 {
        let outer = dir.path().join("outer");
        fs::create_dir(&outer).unwrap();
        if depth == 0 {
            fs::write(outer.join("first"), "of two names").unwrap();
            fs::hard_link(outer.join("first"), outer.join("second")).unwrap();
            fs::write(outer.join("left out"), "by a pattern").unwrap();
        } else {
            fs::rename(&inner, outer.join(&name)).unwrap();
        }
        fs::rename(&outer, &inner).unwrap();
    }
    fs::rename(&inner, tree.join(&name)).unwrap();
    let excludes = vec![format!("/{}/left out", vec![name.as_str(); 40].join("/"))];
    for options in [BuildOptions::default(), BuildOptions { excludes, ..BuildOptions::default() }] {
        let expected = built(&tree, &options).0;
        let path = dir.path().join("deep.erofs");
        fs::write(&path, built(&tree, &BuildOptions::default()).0).unwrap();
        assert!(build_from(Sources::open(&path).unwrap(), &options).unwrap() == expected);
        let image = open(&expected);
        let root = image.inode(image.root_nid()).unwrap();
        let names = image.walk(&root).filter(|step| step.as_ref().unwrap().path.len() > 10_000).count();
        assert_eq!(names, if options.excludes.is_empty() { 4 } else { 3 });
    }
}

#[test]
fn a_damaged_image_is_named_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.erofs");
    let mut bytes = build_from(stream(&archive(&[])), &BuildOptions::default()).unwrap();
    bytes[1024 + 14] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let error = Sources::open(&path).unwrap_err();
    assert!(matches!(&error, Error::Image { path: named, .. } if *named == path), "{error}");
}

#[test]
fn entries_and_filters_and_policies_are_the_same_for_every_source() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/from.pyc"), b"x").unwrap();
    fs::write(dir.path().join("content"), b"0123456789").unwrap();
    let entry = |path: &str, kind| SourceEntry {
        path: path.into(),
        kind,
        mode: 0o640,
        uid: 1000,
        gid: 1000,
        mtime: (77, 5),
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec()), (b"trusted.b".to_vec(), b"2".to_vec())],
    };
    let content = dir.path().join("content");
    let part = SourceKind::Part { file: Arc::new(fs::File::open(&content).unwrap()), offset: 3, size: 4 };
    let entries = vec![
        entry("bytes", SourceKind::Bytes(Arc::new(b"in memory"))),
        entry("d/file", SourceKind::File(content)),
        entry("part", part),
        entry("d/link", SourceKind::HardLink(b"bytes".to_vec())),
        entry("cache/x.pyc", SourceKind::Fifo),
        entry("tty", SourceKind::CharDevice { major: 5, minor: 300 }),
        entry("sym", SourceKind::Symlink(b"d".to_vec())),
    ];
    let mut sources = Sources::new();
    sources.push(DirSource::open(dir.path().join("tree")).unwrap());
    sources.push(stream(&archive(&[file("tar.pyc", b""), file("tar", b"tar")])));
    sources.push(EntriesSource::new(entries, "entries"));
    let mut options = BuildOptions { excludes: vec!["*.pyc".into()], ..BuildOptions::default() };
    options.owners.force_uid = Some(5);
    options.times.all = Some(9);
    options.xattrs = XattrPolicy::Patterns(vec!["trusted.*".into()]);
    options.fingerprint = false;
    let seen = view(sources, &options);
    assert_eq!(
        files(&seen)[..5],
        ["bytes=in memory", "d/file=0123456789", "d/link=in memory", "part=3456", "sym=d"]
    );
    assert!(seen.values().all(|seen| seen.owner.0 == 5 && seen.mtime == (9, 0)));
    assert!(!seen.keys().any(|path| path.ends_with(b".pyc")));
    assert_eq!(seen[&b"bytes"[..]].xattrs.len(), 1);
    assert_eq!(seen[&b"bytes"[..]].nlink, 2);
}

#[test]
fn a_file_that_an_entry_names_and_that_is_not_there_is_named() {
    let entry = SourceEntry {
        path: b"a".to_vec(),
        kind: SourceKind::File("/nowhere/at/all".into()),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        xattrs: Vec::new(),
    };
    let error = build_from(EntriesSource::new(vec![entry], "entries"), &BuildOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path == Path::new("/nowhere/at/all")), "{error}");
}

#[test]
fn nothing_is_built_from_no_source() {
    let error = build_from(Sources::new(), &BuildOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
