//! Trees go into an image and come out of the reader as they were.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;

use common::{built, corner_cases, open, view_dir, view_image};
use erofs_build::{BuildOptions, Feature, KernelVersion, XattrPolicy};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

#[test]
fn everything_that_a_tree_can_hold_comes_back_at_every_block_size() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    let expected = view_dir(dir.path());
    for shift in 9..=16 {
        for fingerprint in [true, false] {
            let options = BuildOptions { block_size: 1 << shift, fingerprint, ..BuildOptions::default() };
            let (bytes, report) = built(dir.path(), &options);
            assert_eq!(bytes.len() as u64, report.bytes);
            assert_eq!(bytes.len() % (1 << shift), 0);
            let found = view_image(&open(&bytes));
            for (name, seen) in &expected {
                assert_eq!(found.get(name), Some(seen), "{} at {}", name.escape_ascii(), 1 << shift);
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

#[test]
fn look_up_finds_every_name() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    let (bytes, _) = built(dir.path(), &BuildOptions::default());
    let image = open(&bytes);
    for name in view_dir(dir.path()).keys() {
        let path = [b"/", &name[..]].concat();
        assert!(image.resolve(&path, false).is_ok(), "{}", name.escape_ascii());
    }
}

#[test]
fn fingerprints_are_the_digests_of_the_contents() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    for name in ["erofs.fingerprint.v1", "trusted.erofs.fingerprint", "user.zzz"] {
        let options = BuildOptions { fingerprint_name: name.into(), ..BuildOptions::default() };
        let (bytes, report) = built(dir.path(), &options);
        let image = open(&bytes);
        let mut fingerprints = 0;
        for entry in image.walk(&image.inode(image.root_nid()).unwrap()) {
            let inode = entry.unwrap().inode;
            let expected = (inode.is_file() && inode.size > 0)
                .then(|| <[u8; 32]>::from(Sha256::digest(common::content(&image, &inode))));
            assert_eq!(image.fingerprint(&inode).unwrap(), expected);
            fingerprints += u64::from(expected.is_some());
        }
        // Hard links are seen more than once.
        assert!(fingerprints > report.fingerprints && report.fingerprints > 400);
    }
}

#[test]
fn the_image_does_not_depend_on_threads_inode_numbers_or_the_order_of_creation() {
    let dir = tempfile::tempdir().unwrap();
    corner_cases(dir.path());
    let other = tempfile::tempdir().unwrap();
    for (name, seen) in view_dir(dir.path()).into_iter().rev() {
        // Another order of creation: from the last name to the first.
        let to = common::below(other.path(), &name);
        if seen.mode & 0o170_000 == 0o100_000 && seen.nlink == 1 && seen.same_as == name {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, &seen.content).unwrap();
        }
    }
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(dir.path().join("."))
        .arg(other.path())
        .status()
        .unwrap();
    assert!(status.success());
    let images: Vec<_> = [(dir.path(), 1), (dir.path(), 2), (dir.path(), 7), (other.path(), 3)]
        .into_iter()
        .map(|(path, threads)| {
            built(path, &BuildOptions { threads: NonZeroUsize::new(threads), ..BuildOptions::default() }).0
        })
        .collect();
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_uuid_is_a_digest_of_contents_even_without_fingerprints() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), vec![1; 10_000]).unwrap();
    let options = BuildOptions {
        fingerprint: false,
        times: erofs_build::Times { all: Some(1), source_date_epoch: None },
        ..BuildOptions::default()
    };
    let first = built(dir.path(), &options).1.uuid;
    assert_eq!(first, built(dir.path(), &options).1.uuid);
    assert_eq!((first[6] >> 4, first[8] >> 6), (8, 2));
    fs::write(dir.path().join("f"), vec![2; 10_000]).unwrap();
    assert_ne!(first, built(dir.path(), &options).1.uuid);
    let given = BuildOptions { uuid: Some([9; 16]), ..options };
    assert_eq!(built(dir.path(), &given).1.uuid, [9; 16]);
}

#[test]
fn the_oldest_kernel_follows_from_what_is_in_the_image() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), b"x").unwrap();
    let plain = BuildOptions { fingerprint: false, ..BuildOptions::default() };
    assert_eq!(built(dir.path(), &plain).1.oldest_kernel, KernelVersion(5, 4));
    assert_eq!(built(dir.path(), &BuildOptions::default()).1.oldest_kernel, KernelVersion(6, 4));
    common::sparse(&dir.path().join("hole"), 1 << 20, &[]);
    let report = built(dir.path(), &plain).1;
    assert_eq!((report.oldest_kernel, report.features), (KernelVersion(5, 15), vec![Feature::ChunkedFile]));
    let old = BuildOptions { target_kernel: Some(KernelVersion(5, 10)), ..plain.clone() };
    let (bytes, report) = built(dir.path(), &old);
    assert_eq!(report.oldest_kernel, KernelVersion(5, 4));
    assert_eq!(view_image(&open(&bytes))[&b"hole"[..]].content, vec![0; 1 << 20]);
    let new = BuildOptions { target_kernel: Some(KernelVersion(6, 15)), ..plain };
    let (bytes, report) = built(dir.path(), &new);
    assert_eq!(report.oldest_kernel, KernelVersion(6, 15));
    assert_eq!(view_image(&open(&bytes)), view_dir(dir.path()));
}

#[test]
fn xattrs_follow_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, b"x").unwrap();
    if !common::set_xattr(&path, b"user.one", b"1") || !common::set_xattr(&path, b"user.two", b"2") {
        return;
    }
    let names = |xattrs: XattrPolicy| {
        let (bytes, _) = built(dir.path(), &BuildOptions { xattrs, ..BuildOptions::default() });
        let view = view_image(&open(&bytes));
        view[&b"f"[..]].xattrs.keys().map(|name| String::from_utf8(name.clone()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(XattrPolicy::Default), ["user.one", "user.two"]);
    assert!(names(XattrPolicy::None).is_empty());
    assert_eq!(names(XattrPolicy::Patterns(vec!["*.t*".into()])), ["user.two"]);
}

/// A part of a tree: what is at a name.
#[derive(Debug, Clone)]
enum Thing {
    File { size: usize, seed: u8, hole: Option<(usize, usize)> },
    Symlink(Vec<u8>),
    Link(prop::sample::Index),
    Fifo,
    Directory(BTreeMap<Vec<u8>, Thing>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("not in names", |byte| ![0, b'/'].contains(byte));
    prop_oneof![
        4 => proptest::collection::vec(byte.clone(), 1..6),
        1 => proptest::collection::vec(byte, 200..=255),
        1 => "[.]{3,5}|[.][a-c]".prop_map(String::into_bytes),
    ]
    .prop_filter("reserved", |name| name != b"." && name != b"..")
}

fn thing() -> impl Strategy<Value = Thing> {
    let size = prop_oneof![Just(0), 1..600usize, 3900..4200usize, 1..40_000usize];
    let hole = proptest::option::of((0..40_000usize, 4096..100_000usize));
    let leaf = prop_oneof![
        6 => (size, any::<u8>(), hole).prop_map(|(size, seed, hole)| Thing::File { size, seed, hole }),
        2 => proptest::collection::vec(1..=255u8, 1..300).prop_map(Thing::Symlink),
        2 => any::<prop::sample::Index>().prop_map(Thing::Link),
        1 => Just(Thing::Fifo),
    ];
    leaf.prop_recursive(4, 60, 12, |inner| {
        proptest::collection::btree_map(name(), inner, 0..12).prop_map(Thing::Directory)
    })
}

fn create(path: &std::path::Path, thing: &Thing, files: &mut Vec<std::path::PathBuf>) {
    match thing {
        Thing::File { size, seed, hole } => {
            let bytes: Vec<u8> = (0..=250u8).cycle().take(*size).map(|n| n ^ seed).collect();
            let (from, length) = hole.unwrap_or((0, 0));
            let (before, after) = bytes.split_at(from.min(*size));
            let total = *size + length;
            common::sparse(path, total as u64, &[(0, before), ((before.len() + length) as u64, after)]);
            files.push(path.to_owned());
        }
        Thing::Symlink(target) => {
            let target = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target);
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        Thing::Link(which) if !files.is_empty() => fs::hard_link(which.get(files), path).unwrap(),
        Thing::Link(_) | Thing::Fifo => rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap(),
        Thing::Directory(entries) => {
            fs::create_dir(path).unwrap();
            for (name, thing) in entries {
                create(&common::below(path, name), thing, files);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(
        entries in proptest::collection::btree_map(name(), thing(), 0..20),
        shift in 9u32..=13,
        threads in 1usize..4,
        inline_tail in proptest::option::of(0u32..9000),
        fingerprint in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        create(&root, &Thing::Directory(entries), &mut Vec::new());
        let options = BuildOptions {
            block_size: 1 << shift,
            threads: NonZeroUsize::new(threads),
            inline_tail,
            fingerprint,
            ..BuildOptions::default()
        };
        let (bytes, _) = built(&root, &options);
        prop_assert_eq!(view_image(&open(&bytes)), view_dir(&root));
    }
}
