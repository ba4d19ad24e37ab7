//! The `fuse` back end on real mounts.
#![forbid(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use common::images::{BIG, MANY, build_image, bytes, describe, make_tree, replace, xattr};
use common::{Server, Tree, can_mount, scratch};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use tempfile::TempDir;

/// A tree, its image and a server that has it mounted.
struct Case {
    place: TempDir,
    server: Server,
    tree: Tree,
}

impl Case {
    fn new() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let place = scratch();
        let source = place.path().join("source");
        fs::create_dir(&source).unwrap();
        make_tree(&source);
        build_image(&source, &place.path().join("image"));
        let server = Server::alone();
        let tree = server.fuse(&place.path().join("image"));
        Some(Self { place, server, tree })
    }

    fn source(&self, inside: &str) -> PathBuf {
        self.place.path().join("source").join(inside)
    }
}

#[test]
fn the_mounted_tree_is_the_tree_that_was_built() {
    let Some(case) = Case::new() else { return };
    assert_eq!(describe(&case.tree.path("")), describe(&case.source("")));
    assert_eq!(fs::read_dir(case.tree.path("many")).unwrap().count(), MANY);
}

#[test]
fn what_is_known_costs_no_message() {
    let Some(case) = Case::new() else { return };
    let rounds = || {
        for _ in 0..100 {
            assert_eq!(fs::read(case.tree.path("deep/er/page")).unwrap().len(), 4096);
            assert_eq!(fs::read_link(case.tree.path("symlink")).unwrap(), PathBuf::from("deep/er/odd"));
            assert_eq!(fs::read_dir(case.tree.path("deep")).unwrap().count(), 2);
            let absent = fs::metadata(case.tree.path("deep/no such file")).unwrap_err();
            assert_eq!(absent.kind(), ErrorKind::NotFound);
        }
    };
    rounds();
    let before = case.server.requests();
    rounds();
    assert_eq!(case.server.requests(), before, "every answer holds for ever");
}

#[test]
fn any_part_of_a_file_can_be_read() {
    let Some(case) = Case::new() else { return };
    let (content, file) = (bytes(3, BIG), File::open(case.tree.path("big")).unwrap());
    for (offset, len) in [(0, 1), (4095, 2), (131_071, 200_000), (BIG - 3, 3), (1_000_000, 3_000_000)] {
        let mut part = vec![0; len];
        file.read_exact_at(&mut part, offset as u64).unwrap();
        assert!(part == content[offset..offset + len], "{len} bytes at {offset}");
    }
    assert_eq!(file.read_at(&mut [0; 10], BIG as u64).unwrap(), 0);
    assert_eq!(file.read_at(&mut [0; 10], BIG as u64 - 4).unwrap(), 4);
}

#[test]
fn holes_are_holes() {
    let Some(case) = Case::new() else { return };
    let file = File::open(case.tree.path("sparse")).unwrap();
    let hole = seek(&file, SeekFrom::Hole(0)).unwrap();
    assert!(hole <= 65536, "hole at {hole}");
    let data = seek(&file, SeekFrom::Data(hole)).unwrap();
    assert!(data > hole && data <= 1 << 20, "data at {data}");
    assert_eq!(seek(&file, SeekFrom::Data(1 << 21)), Err(Errno::NXIO));
    assert_eq!(seek(&file, SeekFrom::Hole(1 << 20)).unwrap(), (1 << 20) + 3);
}

#[test]
fn absent_attributes_are_absent_in_the_cheapest_way() {
    let Some(case) = Case::new() else { return };
    let small = case.tree.path("small");
    assert_eq!(xattr(&small, b"user.mime").unwrap(), b"text/plain");
    assert_eq!(xattr(&small, b"user.other"), Err(Errno::NODATA));
    assert_eq!(xattr(&small, b"security.selinux"), Err(Errno::OPNOTSUPP));
    let short = rustix::fs::lgetxattr(&small, "user.mime", &mut [0; 3][..]);
    assert_eq!(short, Err(Errno::RANGE));
}

#[test]
fn nothing_can_be_changed() {
    let Some(case) = Case::new() else { return };
    assert_eq!(fs::write(case.tree.path("new"), b"x").unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::remove_file(case.tree.path("small")).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(File::open(case.tree.path("null")).is_err(), "a device node opened");
}

#[test]
fn a_corrupt_inode_harms_only_itself() {
    let Some(case) = Case::new() else { return };
    let image = case.place.path().join("corrupt");
    fs::copy(case.place.path().join("image"), &image).unwrap();
    assert!(replace(&image, b"deep/er/odd", b"deep/\0r/odd") > 0, "the target of a symbolic link");
    let tree = case.server.fuse(&image);
    let error = fs::read_link(tree.path("symlink")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::UCLEAN.raw_os_error()));
    assert_eq!(fs::read(tree.path("small")).unwrap(), b"small\n");
    assert!(fs::read_dir(tree.path("")).unwrap().count() > 10);
}

#[test]
fn an_image_that_is_cut_off_gives_errors_and_no_wrong_bytes() {
    let Some(case) = Case::new() else { return };
    let image = case.place.path().join("cut");
    fs::copy(case.place.path().join("image"), &image).unwrap();
    let length = fs::metadata(&image).unwrap().len();
    File::options().write(true).open(&image).unwrap().set_len(length - (2 << 20)).unwrap();
    let tree = case.server.fuse(&image);
    let names = ["big", "deep/er/odd", "deep/er/page", "sparse", "small"];
    let whole: Vec<_> = names
        .into_iter()
        .filter(|name| fs::read(tree.path(name)).is_ok_and(|got| got == fs::read(case.source(name)).unwrap()))
        .collect();
    let failed: Vec<_> = names.into_iter().filter(|name| fs::read(tree.path(name)).is_err()).collect();
    assert!(!failed.is_empty(), "something must have been lost");
    assert_eq!(whole.len() + failed.len(), names.len(), "whole {whole:?}, failed {failed:?}");
}
