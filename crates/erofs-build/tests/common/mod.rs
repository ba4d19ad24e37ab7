//! Trees for tests: written below a directory, built, read back and compared.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test file uses a part of it

pub mod archives;
pub mod random;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_build::{BuildOptions, DirSource, Output, Report, Silent, build};
use erofs_image::{Image, Inode, MemorySource, OpenOptions};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// What an image, or a directory, says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub nlink: u64,
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Which of the names, the first in order, is the same file.
    pub same_as: Vec<u8>,
}

pub type View = BTreeMap<Vec<u8>, Seen>;

/// Builds `source` and gives back the image's bytes.
pub fn built(source: &Path, options: &BuildOptions) -> (Vec<u8>, Report) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let report = build_to(source, options, &path, false).unwrap();
    (fs::read(path).unwrap(), report)
}

pub fn build_to(
    source: &Path,
    options: &BuildOptions,
    image: &Path,
    force: bool,
) -> erofs_build::Result<Report> {
    let mut output = Output::create(image, force)?;
    output.set_durable(false);
    build(options, DirSource::open(source)?, &mut output, &Silent)
}

pub fn open(bytes: &[u8]) -> Image {
    Image::open(Arc::new(MemorySource::new(bytes.to_vec())), OpenOptions::default()).unwrap()
}

/// Everything that an image says.
pub fn view_image(image: &Image) -> View {
    let root = image.inode(image.root_nid()).unwrap();
    let mut first = BTreeMap::new();
    let mut view = View::new();
    let mut names: Vec<_> = image
        .walk(&root)
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path.strip_prefix(b"/").unwrap_or(&entry.path).to_vec(), entry.inode)
        })
        .collect();
    if !names.iter().any(|(path, _)| path.is_empty()) {
        names.push((Vec::new(), root));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, inode) in names {
        let same_as: &Vec<u8> = first.entry(inode.nid).or_insert_with(|| path.clone());
        let xattrs = image.xattrs(&inode).unwrap().into_iter().map(|xattr| (xattr.name, xattr.value));
        let seen = Seen {
            mode: inode.mode.into(),
            owner: (inode.uid, inode.gid),
            mtime: (inode.mtime, inode.mtime_nsec),
            nlink: inode.nlink.into(),
            content: content(image, &inode),
            xattrs: xattrs.collect(),
            same_as: same_as.clone(),
        };
        view.insert(path, seen);
    }
    view
}

pub fn content(image: &Image, inode: &Inode) -> Vec<u8> {
    if inode.is_symlink() {
        return image.read_link(inode).unwrap();
    }
    if !inode.is_file() {
        return inode.rdev.to_le_bytes().to_vec();
    }
    let mut bytes = vec![0xAA; usize::try_from(inode.size).unwrap()];
    let mut done = 0;
    while done < bytes.len() {
        let length = image.read(inode, done as u64, &mut bytes[done..]).unwrap();
        assert_ne!(length, 0, "a file ends before its size");
        done += length;
    }
    bytes
}

/// Everything that a directory says.
pub fn view_dir(root: &Path) -> View {
    let mut names = vec![Vec::new()];
    let mut at = 0;
    while at < names.len() {
        let path = below(root, &names[at]);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                let mut name = names[at].clone();
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(entry.unwrap().file_name().as_bytes());
                names.push(name);
            }
        }
        at += 1;
    }
    names.sort();
    let mut first = BTreeMap::new();
    let mut view = View::new();
    for name in names {
        let path = below(root, &name);
        let stat = fs::symlink_metadata(&path).unwrap();
        let same_as: &Vec<u8> = first.entry((stat.dev(), stat.ino())).or_insert_with(|| name.clone());
        let directories =
            || fs::read_dir(&path).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir());
        let seen = Seen {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            mtime: (stat.mtime(), u32::try_from(stat.mtime_nsec()).unwrap()),
            // Some filesystems do not count the links of directories.
            nlink: if stat.is_dir() { 2 + directories().count() as u64 } else { stat.nlink() },
            content: if stat.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if stat.is_file() {
                fs::read(&path).unwrap()
            } else {
                u32::try_from(stat.rdev()).unwrap().to_le_bytes().to_vec()
            },
            xattrs: xattrs(&path),
            same_as: same_as.clone(),
        };
        view.insert(name, seen);
    }
    view
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

pub fn below(root: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(name)) }
}

pub fn set_mtime(path: &Path, seconds: i64, nsec: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Whether this filesystem has `user.*` xattrs.
pub fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// A file with data in the given places only.
pub fn sparse(path: &Path, size: u64, parts: &[(u64, &[u8])]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).unwrap();
    }
}

/// A tree with one of everything.
pub fn corner_cases(root: &Path) {
    let file = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    for dir in ["a", "a/b", "a/b/c", "empty dir", "!first", "~last"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    let noise: Vec<u8> = (0..70_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for size in
        [0, 1, 511, 512, 513, 1024, 2048, 2049, 4000, 4095, 4096, 4097, 6144, 6145, 8192, 65536, 200_000]
    {
        file(&format!("a/size {size}"), &noise[..size]);
    }
    file("same", b"hello");
    file("a/same", b"hello");
    file("...", b"dots");
    file(".hidden", b"dot");
    file("..x", b"two dots");
    file(&"n".repeat(255), b"long");
    fs::write(below(root, b"\xff\x01\n"), b"bytes").unwrap();
    fs::hard_link(root.join("same"), root.join("a/b/link")).unwrap();
    fs::hard_link(root.join("same"), root.join("zlink")).unwrap();
    std::os::unix::fs::symlink("../nowhere", root.join("a/symlink")).unwrap();
    std::os::unix::fs::symlink("x".repeat(4000), root.join("long symlink")).unwrap();
    fs::hard_link(root.join("a/symlink"), root.join("a/symlink2")).unwrap();
    rustix::fs::mkfifoat(CWD, root.join("fifo"), 0o640.into()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    sparse(&root.join("hole"), 3 << 20, &[]);
    sparse(
        &root.join("sparse"),
        (1 << 20) + 5,
        &[(0, b"start"), (300_000, &noise[..50_000]), (1 << 20, b"end")],
    );
    for nth in 0..400 {
        let path = root.join(format!("a/b/c/many-files-with-long-names-{nth:04}"));
        fs::write(&path, nth.to_string()).unwrap();
        if nth % 3 == 0 {
            set_xattr(&path, b"user.company.product.common", b"everywhere");
        }
        if nth % 5 == 0 {
            set_xattr(&path, b"user.company.product.own", nth.to_string().as_bytes());
        }
    }
    set_xattr(root, b"user.root", b"");
    set_xattr(&root.join("a"), b"user.large", &noise[..1500]);
    fs::set_permissions(root.join("a/size 1"), fs::Permissions::from_mode(0o4755)).unwrap();
    set_mtime(&root.join("a/size 512"), -1_000_000, 5);
    set_mtime(&root.join("a/size 513"), 1 << 33, 0);
    set_mtime(&root.join("a/symlink"), 1_000_000_000, 999_999_999);
}
