//! Files that change while the image is built: an error, or left out where that was asked for, never half of them.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{open, set_mtime, view_image};
use erofs_build::{
    BuildOptions, Compression, CompressionAlgorithm, DirSource, Error, Output, Phase, Progress, Report,
    Silent, build,
};

/// Does something when a phase begins, once for each call that it is given.
struct Meanwhile<'a>(Phase, Mutex<Vec<&'a (dyn Fn() + Sync)>>);

impl Progress for Meanwhile<'_> {
    fn phase(&self, phase: Phase, _files: u64, _bytes: u64) {
        if phase == self.0
            && let Some(change) = self.1.lock().unwrap().pop()
        {
            change();
        }
    }

    fn advance(&self, _files: u64, _bytes: u64) {}

    fn stored(&self, _bytes: u64) {}
}

struct Setting {
    _dir: tempfile::TempDir,
    source: PathBuf,
    out: PathBuf,
}

/// Files before and after two that may change, one of them so large that it is packed in parts.
fn setting() -> Setting {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::create_dir(&out).unwrap();
    let words: Vec<u8> = (0..300_000u32).flat_map(|n| (n.wrapping_mul(n) >> 9).to_le_bytes()).collect();
    let large: Vec<u8> = words.iter().copied().cycle().take((9 << 20) + 1000).collect();
    for (name, bytes) in [
        ("first", &words[..10_000]),
        ("sub/large", &large[..]),
        ("sub/small", &words[..70_000]),
        ("twin", &words[..70_000]),
        ("zlast", &words[5..]),
    ] {
        fs::write(source.join(name), bytes).unwrap();
        set_mtime(&source.join(name), 1_000_000, 0);
    }
    fs::hard_link(source.join("sub/small"), source.join("another name")).unwrap();
    Setting { _dir: dir, source, out }
}

/// Ways to store files, each with code of its own.
fn ways(out: &Path) -> Vec<(&'static str, BuildOptions)> {
    let zstd = || Some(Compression::new(CompressionAlgorithm::Zstd));
    let fragments = zstd().map(|how| Compression { fragments: true, ..how });
    let options = || BuildOptions { uuid: Some([1; 16]), ..BuildOptions::default() };
    vec![
        ("plain", options()),
        ("compressed", BuildOptions { compression: zstd(), ..options() }),
        ("fragments", BuildOptions { compression: fragments, ..options() }),
        ("deduped", BuildOptions { compression: zstd(), dedupe: true, ..options() }),
        ("plain and deduped", BuildOptions { dedupe: true, ..options() }),
        ("chunks", BuildOptions { chunk: Some(65536), ..options() }),
        ("blob", BuildOptions { chunk: Some(65536), blob: Some(out.join("blob")), ..options() }),
    ]
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
}

type Change = (&'static str, fn(&Path));

const CHANGES: [Change; 5] = [
    ("became larger", append),
    ("shrank", |path| fs::write(path, b"").unwrap()),
    ("vanished", |path| fs::remove_file(path).unwrap()),
    ("was written to", |path| {
        OpenOptions::new().write(true).open(path).unwrap().write_all(b"x").unwrap();
    }),
    ("was replaced", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
];

fn run(
    setting: &Setting,
    options: &BuildOptions,
    progress: &dyn Progress,
) -> Result<(Vec<u8>, Report), Error> {
    let path = setting.out.join("image");
    let mut output = Output::create(&path, false).unwrap();
    output.set_durable(false);
    let report = build(options, DirSource::open(&setting.source).unwrap(), &mut output, progress)?;
    Ok((fs::read(&path).unwrap(), report))
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What is in the output's directory, taken away.
fn clear(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> =
        names(out).into_iter().map(|name| (name.clone(), fs::read(out.join(name)).unwrap())).collect();
    files.sort();
    for (name, _) in &files {
        fs::remove_file(out.join(name)).unwrap();
    }
    files
}

#[test]
fn a_file_that_changes_is_named_however_it_is_stored_and_nothing_is_left() {
    for (what, change) in CHANGES {
        for nth in 0..ways(Path::new("")).len() {
            let setting = setting();
            let (way, options) = ways(&setting.out).swap_remove(nth);
            let name = if nth % 2 == 0 { "sub/large" } else { "zlast" };
            let path = setting.source.join(name);
            let change = || change(&path);
            let error =
                run(&setting, &options, &Meanwhile(Phase::Pack, Mutex::new(vec![&change]))).unwrap_err();
            assert!(matches!(error, Error::Changed { .. }), "{way}, {what}: {error}");
            assert_eq!(error.path(), Some(&*path), "{way}, {what}");
            assert!(names(&setting.out).is_empty(), "{way}, {what}: something is left");
        }
    }
}

#[test]
fn keeping_going_gives_the_image_of_the_tree_without_what_changed() {
    for nth in 0..ways(Path::new("")).len() {
        // Each way with some changes, and each change in some way.
        for (what, change) in CHANGES.into_iter().skip(nth % 3).step_by(3) {
            let setting = setting();
            let (way, options) = ways(&setting.out).swap_remove(nth);
            let without = BuildOptions {
                excludes: ["/sub/large", "/sub/small", "/another name"].map(String::from).into(),
                ..options.clone()
            };
            run(&setting, &without, &Silent).unwrap();
            let expected = clear(&setting.out);

            let options = BuildOptions { keep_going: true, ..options };
            // By its first name a file is opened.
            let change_small = || change(&setting.source.join("another name"));
            let change_large = || change(&setting.source.join("sub/large"));
            // The second is changed when all is begun again without the first.
            let progress = Meanwhile(Phase::Pack, Mutex::new(vec![&change_large, &change_small]));
            let (bytes, report) = run(&setting, &options, &progress).unwrap();
            assert!(clear(&setting.out) == expected, "{way}, {what}: not the image without it");
            let skipped: Vec<_> = report.skipped.iter().map(|skipped| skipped.path.clone()).collect();
            let paths = ["another name", "sub/large", "sub/small"].map(|name| setting.source.join(name));
            assert_eq!(skipped, paths, "{way}, {what}");
            assert!(
                report.skipped.iter().all(|skipped| skipped.reason.ends_with("while the image was built"))
            );
            assert_eq!((report.files, report.excluded), (3, 0));
            drop(bytes);
        }
    }
}

#[test]
fn what_changes_before_anything_is_packed_is_found_at_once() {
    let setting = setting();
    let removed = Mutex::new(0);
    let remove = || {
        *removed.lock().unwrap() += 1;
        fs::remove_file(setting.source.join("first")).unwrap();
        append(&setting.source.join("zlast"));
    };
    let options = BuildOptions { keep_going: true, ..BuildOptions::default() };
    let progress =
        Meanwhile(Phase::Pack, Mutex::new(vec![&|| panic!("packed three times"), &|| (), &remove]));
    let (bytes, report) = run(&setting, &options, &progress).unwrap();
    assert_eq!(report.skipped.len(), 2);
    let view = view_image(&open(&bytes));
    assert!(!view.contains_key(&b"first"[..]) && !view.contains_key(&b"zlast"[..]));
    assert_eq!(view[&b"sub/small"[..]].same_as, b"another name");
}

/// Removes a directory when so many directories were read before it, its parent being the last.
struct RemoveEarly<'a>(&'a Path, AtomicUsize);

impl Progress for RemoveEarly<'_> {
    fn phase(&self, _phase: Phase, _files: u64, _bytes: u64) {}

    fn advance(&self, _files: u64, _bytes: u64) {
        if self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            fs::remove_dir_all(self.0).unwrap();
        }
    }

    fn stored(&self, _bytes: u64) {}
}

#[test]
fn a_directory_that_vanishes_while_names_are_read_is_left_out() {
    let setting = setting();
    let sub = setting.source.join("sub");
    fs::create_dir(setting.source.join("sub2")).unwrap();
    let options = BuildOptions::default();
    let with = run(&setting, &BuildOptions { excludes: vec!["/sub/".into()], ..options.clone() }, &Silent);
    clear(&setting.out);

    let keep_going = BuildOptions { keep_going: true, ..options.clone() };
    let (bytes, report) = run(&setting, &keep_going, &RemoveEarly(&sub, AtomicUsize::new(1))).unwrap();
    assert!(bytes == with.unwrap().0, "not the image without it");
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(report.skipped[0].path, sub);
    clear(&setting.out);

    fs::create_dir(&sub).unwrap();
    let error = run(&setting, &options, &RemoveEarly(&sub, AtomicUsize::new(1))).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(names(&setting.out).is_empty());
}

#[test]
fn keeping_going_does_not_hide_what_an_upper_source_could_not_be_asked() {
    let (lower, upper) = (setting(), setting());
    let sub = upper.source.join("sub");
    let mut sources = erofs_build::Sources::new();
    sources.push(DirSource::open(&lower.source).unwrap());
    sources.push(DirSource::open(&upper.source).unwrap());
    let mut output = Output::create(upper.out.join("image"), false).unwrap();
    let options = BuildOptions { keep_going: true, ..BuildOptions::default() };
    let error = build(&options, sources, &mut output, &RemoveEarly(&sub, AtomicUsize::new(3))).unwrap_err();
    assert_eq!(error.path(), Some(&*sub), "{error}");
}

#[test]
fn keeping_going_still_ends_where_the_output_fails() {
    let setting = setting();
    let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut output = Output::stream(&mut full).unwrap();
    let options = BuildOptions { keep_going: true, ..BuildOptions::default() };
    let tree = DirSource::open(&setting.source).unwrap();
    let error = build(&options, tree, &mut output, &Silent).unwrap_err();
    assert_eq!(error.errno(), 28);
}

#[test]
fn a_blob_whose_image_can_not_appear_does_not_stay() {
    let setting = setting();
    let options = ways(&setting.out).pop().unwrap().1;
    let image = setting.out.join("image");
    let appear = || fs::write(&image, b"other").unwrap();
    let progress = Meanwhile(Phase::Finish, Mutex::new(vec![&appear]));
    let error = run(&setting, &options, &progress).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(clear(&setting.out), [("image".to_owned(), b"other".to_vec())]);
}
