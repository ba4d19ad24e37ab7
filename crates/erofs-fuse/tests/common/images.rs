//! Trees and images, honest and not.

use std::ffi::CString;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use erofs_build::{BuildOptions, DirSource, Output, Silent, XattrPolicy, build};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use sha2::{Digest as _, Sha256};

/// Entries of the directory `many`: more than one READDIRPLUS holds.
pub const MANY: usize = 3000;

/// Bytes of the file `big`.
pub const BIG: usize = 5_000_011;

/// Bytes that are the same each time and differ with `seed`.
pub fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// One of everything.
pub fn make_tree(root: &Path) {
    for directory in ["deep/er", "many", "empty"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join("nothing"), b"").unwrap();
    fs::write(root.join("small"), b"small\n").unwrap();
    fs::write(root.join("deep/er/page"), bytes(1, 4096)).unwrap();
    fs::write(root.join("deep/er/odd"), bytes(2, 12_345)).unwrap();
    fs::write(root.join("big"), bytes(3, BIG)).unwrap();
    fs::hard_link(root.join("small"), root.join("deep/link")).unwrap();
    symlink("deep/er/odd", root.join("symlink")).unwrap();
    for number in 0..MANY {
        fs::write(root.join(format!("many/{number:05}")), number.to_string()).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"end", 1 << 20).unwrap();
    let secret = root.join("secret");
    fs::write(&secret, b"0600").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o4600)).unwrap();
    make_node(&root.join("fifo"), FileType::Fifo, 0, 0);
    make_node(&root.join("null"), FileType::CharacterDevice, 1, 3);
    make_node(&root.join("zero-zero"), FileType::CharacterDevice, 0, 0);
    make_node(&root.join("block"), FileType::BlockDevice, 259, 70_000);
    set_xattr(&root.join("small"), "user.mime", b"text/plain");
    set_xattr(&root.join("deep"), "user.folder", b"yes");
    set_xattr(&root.join("big"), "user.overlay.redirect", b"/etc/shadow");
    set_xattr(&root.join("big"), "user.overlay.metacopy", b"");
    set_xattr(&root.join("deep"), "user.overlay.opaque", b"y");
    set_xattr(&root.join("nothing"), "user.overlay.whiteout", b"y");
    set_xattr(&root.join("nothing"), "user.overlay.overlay.nested", b"n");
    set_xattr(&root.join("secret"), "trusted.overlay.redirect", b"/etc/shadow");
    set_xattr(&root.join("deep/er"), "trusted.overlay.opaque", b"y");
}

fn make_node(path: &Path, kind: FileType, major: u32, minor: u32) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
}

/// An image of `source`, with every xattr.
pub fn build_image(source: &Path, image: &Path) {
    let options = BuildOptions { xattrs: XattrPolicy::All, ..BuildOptions::default() };
    let mut output = Output::create(image, true).unwrap();
    build(&options, DirSource::open(source).unwrap(), &mut output, &Silent).unwrap();
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Makes the image claim, for every file with the bytes `truth`, the fingerprint of `lie`.
pub fn lie_about(image: &Path, truth: &[u8], lie: &[u8]) {
    assert!(replace(image, &sha256(truth), &sha256(lie)) > 0, "the image holds no such fingerprint");
}

/// Replaces all occurrences of some bytes and makes the superblock's checksum right again; tells how many there were.
pub fn replace(image: &Path, from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(image).unwrap();
    let places: Vec<_> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at..*at + to.len()].copy_from_slice(to);
    }
    let block = 1 << bytes[1024 + 0x0c];
    bytes[1028..1032].fill(0);
    let checksum = !crc32c::crc32c(&bytes[1024..block]);
    bytes[1028..1032].copy_from_slice(&checksum.to_le_bytes());
    fs::write(image, bytes).unwrap();
    places.len()
}

/// All that a filesystem tells of the tree below `root`, in order, but inode numbers and access times.
pub fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe_into(root, "", &mut lines);
    lines
}

fn describe_into(path: &Path, name: &str, lines: &mut Vec<String>) {
    let stat = fs::symlink_metadata(path).unwrap();
    let mut line = format!(
        "{name} {:o} {}:{} {} {}.{}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.rdev(),
        stat.mtime(),
        stat.mtime_nsec()
    );
    let kind = stat.file_type();
    if kind.is_file() {
        let content = fs::read(path).unwrap();
        assert_eq!(content.len() as u64, stat.size());
        write!(line, " {} {:x?}", stat.nlink(), sha256(&content)).unwrap();
    } else if kind.is_symlink() {
        write!(line, " -> {}", fs::read_link(path).unwrap().display()).unwrap();
    }
    for (name, value) in xattrs(path) {
        write!(line, " {name}={value:?}").unwrap();
    }
    lines.push(line);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for child in names {
            describe_into(&path.join(&child), &format!("{name}/{}", child.display()), lines);
        }
    }
}

/// Names and values, in order.
pub fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 65536];
    let Ok(len) = rustix::fs::llistxattr(path, &mut names) else { return Vec::new() };
    names.truncate(len);
    let mut found: Vec<_> = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| (String::from_utf8(name.to_vec()).unwrap(), xattr(path, name).unwrap()))
        .collect();
    found.sort();
    found
}

/// One value.
pub fn xattr(path: &Path, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let name = CString::new(name).unwrap();
    let len = rustix::fs::lgetxattr(path.as_os_str().as_bytes(), name.as_c_str(), &mut value)?;
    value.truncate(len);
    Ok(value)
}

/// An access ACL that lets `user` read, and nobody else beside the owner.
pub fn set_acl(path: &Path, user: u32) {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let undefined = u32::MAX;
    for (tag, permissions, id) in
        [(1, 6, undefined), (2, 4, user), (4, 0, undefined), (0x10, 4, undefined), (0x20, 0, undefined)]
    {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(permissions));
        acl.extend(u32::to_le_bytes(id));
    }
    set_xattr(path, "system.posix_acl_access", &acl);
}
