//! Trees that come from several sources.

mod common;

use common::View;
use common::archives::{archive, build_from, file, header, stream, view};
use erofs_build::{BuildOptions, ErrorKind, Sources, TarSource, Whiteouts};

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
fn nothing_is_built_from_no_source() {
    let error = build_from(Sources::new(), &BuildOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
