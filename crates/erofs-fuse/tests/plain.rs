//! The `fuse` back end on a real mount.
#![forbid(unsafe_code)]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use common::{Server, can_mount, scratch};

#[test]
fn smoke() {
    if !can_mount() {
        return;
    }
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/a"), b"hello").unwrap();
    fs::write(source.join("big"), vec![7; 1 << 20]).unwrap();
    let image = place.path().join("x.erofs");
    let out = std::process::Command::new("mkfs.erofs").arg(&image).arg(&source).output().unwrap();
    assert!(out.status.success());
    let server = Server::alone();
    let tree = server.fuse(&image);
    assert_eq!(fs::read(tree.path("d/a")).unwrap(), b"hello");
    assert_eq!(fs::read(tree.path("big")).unwrap(), vec![7; 1 << 20]);
    assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), 2);
    assert_eq!(fs::metadata(tree.path("big")).unwrap().size(), 1 << 20);
    let _ = fs::File::open(tree.path("big")).unwrap().read_at(&mut [0; 10], 5);
}
