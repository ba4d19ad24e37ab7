//! Archives as sources: what is read from them, and what is refused.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::archives::{archive, build_from, file, header, member, pax, sealed, stream, text, view};
use common::{built, corner_cases, open, view_image};
use erofs_build::{BuildOptions, Error, ErrorKind, Sources, TarSource, XattrPolicy};

fn refused(bytes: &[u8]) -> Error {
    let error = build_from(stream(bytes), &BuildOptions::default()).map(drop).unwrap_err();
    assert!(error.path().is_some_and(|path| path.starts_with("stream.tar")), "{error}");
    // In place it is the same.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stream.tar");
    fs::write(&path, bytes).unwrap();
    build_from(TarSource::open(&path).unwrap(), &BuildOptions::default()).map(drop).unwrap_err();
    error
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The corner cases without what no archive holds.
fn tree(dir: &Path) -> std::path::PathBuf {
    let tree = dir.join("tree");
    fs::create_dir(&tree).unwrap();
    corner_cases(&tree);
    fs::remove_file(tree.join("socket")).unwrap();
    common::set_mtime(&tree, 1_600_000_000, 7);
    tree
}

/// The archive of `tree` that a program makes with these arguments.
fn packed(program: &str, arguments: &[&str], tree: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).args(["-cf", "-", "-C"]).arg(tree).arg(".").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const PAX: [&str; 3] = ["--format=pax", "--xattrs", "--sparse"];

/// An ACL: one user more may read.
const ACL: &[u8] =
    b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

#[test]
fn a_directory_and_its_pax_archive_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path());
    common::set_xattr(&tree.join("same"), b"user.a=b%c%41", b"a\nb=c\0");
    common::set_xattr(&tree.join("same"), b"system.posix_acl_access", ACL);
    common::set_xattr(&tree.join("a"), b"system.posix_acl_default", ACL);
    let expected = built(&tree, &BuildOptions::default()).0;
    let bytes = packed("tar", &PAX, &tree);
    assert!(build_from(stream(&bytes), &BuildOptions::default()).unwrap() == expected);
    let tar = dir.path().join("in place.tar");
    fs::write(&tar, bytes).unwrap();
    assert!(build_from(Sources::open(&tar).unwrap(), &BuildOptions::default()).unwrap() == expected);
    for threads in [1, 3] {
        let options =
            BuildOptions { threads: std::num::NonZeroUsize::new(threads), ..BuildOptions::default() };
        assert!(build_from(TarSource::open(&tar).unwrap(), &options).unwrap() == expected);
    }
    if Command::new("bsdtar").arg("--version").output().is_err() {
        return;
    }
    // libarchive does not write a fraction of a time before 1970 as POSIX has it.
    common::set_mtime(&tree.join("a/size 512"), -1_000_000, 0);
    let expected = built(&tree, &BuildOptions::default()).0;
    let bytes = packed("bsdtar", &["--format=pax", "--xattrs", "--acls"], &tree);
    assert!(build_from(stream(&bytes), &BuildOptions::default()).unwrap() == expected);
}

#[test]
fn a_compressed_archive_gives_the_same_bytes_and_a_cut_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path());
    let expected = built(&tree, &BuildOptions::default()).0;
    let plain = dir.path().join("plain.tar");
    fs::write(&plain, packed("tar", &PAX, &tree)).unwrap();
    let length = fs::metadata(&plain).unwrap().len();
    for program in ["gzip", "xz", "bzip2", "zstd"] {
        let output = Command::new(program).arg("-c").arg(&plain).output().unwrap();
        assert!(output.status.success());
        let path = dir.path().join("compressed");
        fs::write(&path, &output.stdout).unwrap();
        let source = Sources::open(&path).unwrap();
        assert!(build_from(source, &BuildOptions::default()).unwrap() == expected, "{program}");
        // In two pieces that were strung together.
        let half = |skip: u64, count: u64| {
            let piece = fs::read(&plain).unwrap();
            let piece = &piece[usize::try_from(skip).unwrap()..usize::try_from(skip + count).unwrap()];
            fs::write(dir.path().join("piece"), piece).unwrap();
            Command::new(program).arg("-c").arg(dir.path().join("piece")).output().unwrap().stdout
        };
        let strung = [half(0, 70_000), half(70_000, length - 70_000)].concat();
        assert!(build_from(stream(&strung), &BuildOptions::default()).unwrap() == expected, "{program}");
        for cut in [9, output.stdout.len() / 2, output.stdout.len() - 7] {
            let error = build_from(stream(&output.stdout[..cut]), &BuildOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source, "{program}: {error}");
        }
        let mut damaged = output.stdout.clone();
        damaged[output.stdout.len() / 2] ^= 0x55;
        let error = build_from(stream(&damaged), &BuildOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source, "{program}: {error}");
    }
}

#[test]
fn lists_of_access_in_words_are_taken_and_those_without_numbers_refused() {
    let words = "user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::r--";
    let seen = view(
        stream(&archive(&[pax(b'x', &[("SCHILY.acl.access", words.as_bytes())]), file("a", b"")])),
        &BuildOptions::default(),
    );
    assert_eq!(seen[&b"a"[..]].xattrs[&b"system.posix_acl_access"[..]], ACL);
    // The group's permissions in st_mode are the mask's.
    assert_eq!(seen[&b"a"[..]].mode, 0o100_644);
    let masked = "user::rw-,user:lisa:rw-:1000,group::---,mask::rw-,other::---";
    let masked = archive(&[pax(b'x', &[("SCHILY.acl.access", masked.as_bytes())]), file("a", b"")]);
    for xattrs in [XattrPolicy::Default, XattrPolicy::None] {
        let options = BuildOptions { xattrs, ..BuildOptions::default() };
        assert_eq!(view(stream(&masked), &options)[&b"a"[..]].mode, 0o100_660);
    }
    let nameless = words.replace(":1000", "");
    let bytes = archive(&[pax(b'x', &[("SCHILY.acl.access", nameless.as_bytes())]), file("a", b"")]);
    assert!(refused(&bytes).to_string().contains("without numbers"));
    // Who leaves ACLs out need not have them understood.
    let options = BuildOptions { xattrs: XattrPolicy::None, ..BuildOptions::default() };
    assert!(view(stream(&bytes), &options)[&b"a"[..]].xattrs.is_empty());
}

#[test]
fn a_build_from_a_pipe_that_nobody_writes_to_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let source = Sources::open(&pipe).unwrap();
    let options = BuildOptions::default();
    let cancel = std::sync::Arc::clone(&options.cancel);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let error = build_from(source, &options).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    stopper.join().unwrap();
    // Somebody who writes to it slowly is waited for.
    let source = Sources::open(&pipe).unwrap();
    let writer = std::thread::spawn(move || {
        let mut pipe = fs::File::create(pipe).unwrap();
        for piece in archive(&[file("a", b"content")]).chunks(700) {
            std::thread::sleep(std::time::Duration::from_millis(60));
            std::io::Write::write_all(&mut pipe, piece).unwrap();
        }
    });
    assert_eq!(text(&view(source, &BuildOptions::default()), "a"), "content");
    writer.join().unwrap();
}

#[test]
fn every_form_of_sparse_member_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let parts: Vec<(u64, &[u8])> = (0..60).map(|nth| (nth << 17, &b"data"[..])).collect();
    common::sparse(&tree.join("many"), 60 << 17, &parts);
    common::sparse(&tree.join("hole"), 1 << 20, &[]);
    let expected = built(&tree, &BuildOptions::default()).0;
    let forms: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for form in forms {
        let tar = dir.path().join("sparse.tar");
        run(Command::new("tar").args(form).args(["--sparse", "-cf"]).arg(&tar).arg("-C").arg(&tree).arg("."));
        let image = build_from(TarSource::open(&tar).unwrap(), &BuildOptions::default()).unwrap();
        let (found, wanted) = (view_image(&open(&image)), view_image(&open(&expected)));
        for name in [&b"many"[..], b"hole"] {
            assert!(found[name].content == wanted[name].content, "{form:?}");
        }
        assert!(image.len() < expected.len() + 8192, "{form:?}: holes were stored");
    }
}

#[test]
fn names_and_numbers_of_every_format_are_read() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let mut gnu_long = member(&header("././@LongLink", b'L', long.len() as u64 + 1, ""), long.as_bytes());
    gnu_long.extend(file("short", b"gnu"));
    let mut prefixed = header("name", b'0', 0, "");
    prefixed[345..351].copy_from_slice(b"prefix");
    let mut large = header("owner", b'0', 0, "");
    large[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0x11, 0x22, 0x33, 0x44]);
    large[136..148].copy_from_slice(&(-5i128).to_be_bytes()[4..]);
    let mut old = header("old/", 0, 0, "");
    old[257..265].fill(0);
    let records: &[(&str, &[u8])] = &[
        ("path", b"pax/\xff"),
        ("mtime", b"5.25"),
        ("uid", b"70000"),
        ("SCHILY.xattr.user.x", b"a\nb=c\0"),
        ("SCHILY.xattr.user.y%25", b"y"),
        ("comment", b"whatever"),
    ];
    let far =
        |time: i64| [pax(b'x', &[("mtime", time.to_string().as_bytes())]), file(&time.to_string(), b"")];
    let bytes = archive(&[
        far(i64::MAX).concat(),
        far(-i64::MAX).concat(),
        gnu_long,
        sealed(prefixed).to_vec(),
        sealed(large).to_vec(),
        sealed(old).to_vec(),
        pax(b'x', records),
        file("ignored", b"pax"),
        // The name is cut off behind a slash, the path is not.
        pax(b'x', &[("path", b"cut/off/here")]),
        file("cut/off/", b"cut"),
        file("names/", b"of an incremental archive"),
        pax(b'g', &[("uid", b"9")]),
        file("./after", b""),
        header("link", b'2', 7, "target").to_vec(),
        header("dev", b'3', 0, "").to_vec(),
    ]);
    let view = view(stream(&bytes), &BuildOptions::default());
    assert_eq!(text(&view, &long), "gnu");
    for time in [i64::MAX, -i64::MAX] {
        assert_eq!(view[time.to_string().as_bytes()].mtime, (time, 0));
    }
    assert!(view.contains_key(&b"prefix/name"[..]));
    assert_eq!((text(&view, "cut/off/here"), view[&b"names"[..]].mode), ("cut".into(), 0o40_644));
    assert_eq!((view[&b"owner"[..]].owner.0, view[&b"owner"[..]].mtime), (0x1122_3344, (-5, 0)));
    assert_eq!(view[&b"old"[..]].mode, 0o40644);
    let pax = &view[&b"pax/\xff"[..]];
    assert_eq!((&*pax.content, pax.mtime, pax.owner), (&b"pax"[..], (5, 250_000_000), (70000, 1000)));
    assert_eq!(pax.xattrs[&b"user.x"[..]], b"a\nb=c\0");
    assert_eq!(pax.xattrs[&b"user.y%"[..]], b"y");
    assert_eq!(view[&b"after"[..]].owner, (9, 1000));
    assert_eq!(text(&view, "link"), "target");
    // What no entry says anything about belongs to root.
    assert_eq!((view[&b"pax"[..]].mode, view[&b""[..]].owner), (0o40755, (0, 0)));
}

#[test]
fn the_last_of_several_entries_wins_and_links_may_come_first() {
    let bytes = archive(&[
        header("forward", b'1', 0, "a").to_vec(),
        file("a", b"old"),
        header("early", b'1', 0, "./a").to_vec(),
        file("/a", b"new"),
        file("dir/kept", b"kept"),
        header("dir", b'5', 0, "").to_vec(),
        file("gone/x", b"x"),
        file("gone", b"a file now"),
    ]);
    let view = view(stream(&bytes), &BuildOptions::default());
    assert_eq!(
        (text(&view, "a"), text(&view, "early"), text(&view, "forward")),
        ("new".into(), "old".into(), "new".into())
    );
    assert_eq!(view[&b"a"[..]].nlink, 2);
    assert_eq!(text(&view, "dir/kept"), "kept");
    assert_eq!(text(&view, "gone"), "a file now");
}

#[test]
fn a_long_chain_of_links_is_followed_once() {
    let mut members: Vec<_> =
        (0..20_000).map(|nth| header(&nth.to_string(), b'1', 0, &(nth + 1).to_string()).to_vec()).collect();
    members.push(file("20000", b"end"));
    let image = build_from(stream(&archive(&members)), &BuildOptions::default()).unwrap();
    let image = open(&image);
    let inode = image.resolve(b"/0", false).unwrap();
    assert_eq!((inode.size, inode.nlink), (3, 20_001));
}

#[test]
fn archives_that_lie_are_refused_with_the_place() {
    let good = archive(&[file("a", &[1; 1000])]);
    for cut in [0, 100, 512, 700, 1535, 1536] {
        let error = refused(&good[..cut]);
        assert!(
            matches!(error, Error::Archive { .. }) && error.to_string().contains("cut off"),
            "{cut}: {error}"
        );
    }
    let huge = archive(&[member(&header("a", b'0', 0o77_777_777_777, ""), b"short")]);
    assert!(refused(&huge).to_string().contains("cut off"));
    let mut damaged = archive(&[file("first", b""), file("a", &[1; 1000])]);
    damaged[512 + 3] ^= 1;
    assert!(refused(&damaged).to_string().contains("at byte 512 of the archive: a header's checksum"));
    damaged[3] ^= 1;
    assert!(refused(&damaged).to_string().contains("no tar archive"));
    for (members, words) in [
        (vec![file("a/../../b", b"")], "climbs"),
        (vec![header("a", b'1', 0, "../b").to_vec()], "climbs"),
        (vec![header("a", b'1', 0, "b").to_vec()], "does not have"),
        (vec![header("a", b'1', 0, "b").to_vec(), header("b", b'1', 0, "a").to_vec()], "circle"),
        (vec![header("a", b'1', 0, "a").to_vec()], "itself"),
        (vec![header("d", b'5', 0, "").to_vec(), header("a", b'1', 0, "d").to_vec()], "to a directory"),
        (vec![file("a", b""), file("a/b", b"")], "no directory"),
        (vec![header("a", b'Q', 0, "").to_vec()], "unknown type"),
        (vec![header(".", b'0', 0, "").to_vec()], "root"),
        (vec![pax(b'x', &[("size", b"many")]), file("a", b"")], "no number"),
        (vec![pax(b'x', &[("path", &[b'n'; 300])]), file("a", b"")], "longer than 255"),
        (vec![pax(b'x', &[("path", &[b'/'; 5000])]), file("a", b"")], "more than 4095 bytes"),
        (vec![pax(b'x', &[("path", b"a\0b")]), file("a", b"")], "NUL"),
        (vec![pax(b'x', &[("linkpath", b"a\0b")]), header("a", b'2', 0, "").to_vec()], "NUL"),
        (vec![pax(b'x', &[("linkpath", &[b'n'; 5000])]), header("a", b'2', 0, "").to_vec()], "target"),
        (vec![header("a", b'2', 0, "").to_vec()], "target"),
        (
            vec![pax(b'x', &[(&format!("SCHILY.xattr.user.{}", "n".repeat(300)), b"x")]), file("a", b"")],
            "xattr",
        ),
        (vec![pax(b'x', &[("SCHILY.xattr.user.x", &[0; 65536])]), file("a", b"")], "65535"),
        (vec![pax(b'x', &[("LIBARCHIVE.xattr.user.a%00", b"eQ")]), file("a", b"")], "NUL"),
        (vec![pax(b'x', &[("uid", b"4294967296")]), file("a", b"")], "uid"),
        (vec![pax(b'x', &[("size", b"9223372036854775808")]), file("a", b"")], "larger"),
        (
            vec![pax(b'x', &[("GNU.sparse.map", b"0,4"), ("GNU.sparse.size", b"3")]), file("a", b"data")],
            "sparse",
        ),
        (
            vec![pax(b'x', &[("GNU.sparse.map", b"0,3"), ("GNU.sparse.size", b"9")]), file("a", b"data")],
            "sparse",
        ),
        (vec![vec![0; 512], file("a", b"")], "behind a block of zeros"),
    ] {
        let error = refused(&archive(&members));
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    refused(b"this is no archive at all, but long enough to be asked about");
}

/// A sparse file of almost 8 EiB with four bytes of data, or none.
fn endless(data: &[u8]) -> Vec<u8> {
    let size = (i64::MAX - 4096).to_string();
    let map = format!("0,{}", data.len());
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())];
    archive(&[pax(b'x', records), file("endless", data)])
}

#[test]
fn a_sparse_file_of_8_eib_is_a_hole_or_refused_but_never_written() {
    let image = build_from(stream(&endless(b"")), &BuildOptions::default()).unwrap();
    assert!(image.len() < 100 << 20);
    let image = open(&image);
    let inode = image.resolve(b"/endless", false).unwrap();
    assert_eq!(inode.size, i64::MAX.unsigned_abs() - 4096);
    // More zeros than a fingerprint is made of, but the data can be told from them.
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.map", b"34359738368,4"), ("GNU.sparse.size", b"68719476736")];
    let image =
        build_from(stream(&archive(&[pax(b'x', records), file("large", b"data")])), &BuildOptions::default());
    let image = open(&image.unwrap());
    let inode = image.resolve(b"/large", false).unwrap();
    let mut read = [9; 8];
    image.read(&inode, (1 << 35) - 2, &mut read).unwrap();
    assert_eq!(&read, b"\0\0data\0\0");
    let error = refused(&endless(b"data"));
    assert!(matches!(error, Error::TooSparse { .. }), "{error}");
    let plain = BuildOptions { holes: false, ..BuildOptions::default() };
    let error = build_from(stream(&endless(b"data")), &plain).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
