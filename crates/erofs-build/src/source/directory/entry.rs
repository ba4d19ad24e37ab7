//! One entry of a directory: attributes, xattrs, link target, holes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, OFlags, Stat, flistxattr, lgetxattr, llistxattr, major, minor, readlinkat, statat,
};
use rustix::io::Errno;

use super::dir::open_unseen;
use super::holes;
use crate::error::{Error, Result};
use crate::source::{Found, What};
use crate::tree::{Key, Kind, Regular, Stamp, device_number};
use crate::xattr::{Filter, Xattr, Xattrs};

/// The largest value that fits the 16 bits that the format has for its size.
const MAX_VALUE: usize = u16::MAX as usize;

/// The largest list and value that Linux has.
const MAX_LIST: usize = 65536;

/// What reading an entry needs besides its name.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) filter: &'a Filter<'a>,
    pub(super) holes: bool,
    pub(super) block_size: u64,
}

pub(super) fn stat(dir: &OwnedFd, name: &CStr) -> rustix::io::Result<Stat> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

impl Reader<'_> {
    /// Reads the entry `name` of `dir`; `path` makes its path for messages.
    pub(super) fn read(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        stat: Stat,
        path: &dyn Fn() -> std::path::PathBuf,
    ) -> Result<Found> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory { first: 0, count: 0 },
            FileType::RegularFile => Kind::Regular(self.regular(dir, name, &stat, path)?),
            FileType::Symlink => {
                let target =
                    readlinkat(dir, name, Vec::new()).map_err(|error| vanished(error, path, "read"))?;
                Kind::Symlink(target.into_bytes().into())
            }
            FileType::CharacterDevice => {
                Kind::CharDevice(device_number(major(stat.st_rdev).into(), minor(stat.st_rdev).into(), path)?)
            }
            FileType::BlockDevice => Kind::BlockDevice(device_number(
                major(stat.st_rdev).into(),
                minor(stat.st_rdev).into(),
                path,
            )?),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Err(Error::FileType { path: path(), mode: stat.st_mode }),
        };
        let xattrs = if self.filter.takes_none() {
            (Xattrs::default(), 0)
        } else {
            // There is no listxattrat before Linux 6.13; this is the same for every kernel.
            let prefix = format!("/proc/self/fd/{}/", dir.as_raw_fd());
            let file = [prefix.as_bytes(), name.to_bytes_with_nul()].concat();
            let file = CStr::from_bytes_with_nul(&file)
                .map_err(|_| Error::Name { path: path(), reason: "it contains a NUL byte" })?;
            self.xattrs(file, |buffer| llistxattr(file, buffer), path)?
        };
        Ok(found(name.to_bytes(), &stat, kind, xattrs))
    }

    /// Reads the root, which has no name.
    pub(super) fn root(&self, root: &OwnedFd, stat: Stat, path: &Path) -> Result<Found> {
        let path = &|| path.to_owned();
        let xattrs = if self.filter.takes_none() {
            (Xattrs::default(), 0)
        } else {
            let file = format!("/proc/self/fd/{}/.\0", root.as_raw_fd());
            let file = CStr::from_bytes_with_nul(file.as_bytes())
                .map_err(|_| Error::Name { path: path(), reason: "it contains a NUL byte" })?;
            self.xattrs(file, |buffer| flistxattr(root, buffer), path)?
        };
        let kind = Kind::Directory { first: 0, count: 0 };
        Ok(found(b"", &stat, kind, xattrs))
    }

    fn regular(
        &self,
        dir: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        path: &dyn Fn() -> std::path::PathBuf,
    ) -> Result<Regular> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let mut data = None;
        if self.holes && size > self.block_size && stored < size {
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file =
                open_unseen(dir, name.to_bytes(), flags).map_err(|error| vanished(error, path, "open"))?;
            data = holes::segments(file.as_fd(), size, self.block_size)
                .map_err(|error| Error::io(&path(), "find the holes of")(error))?;
        }
        Ok(Regular { size, data, key: Key::Stamp(stamp(stat)) })
    }

    /// The xattrs of `file` that are taken, and how many are not.
    fn xattrs(
        &self,
        file: &CStr,
        list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
        path: &dyn Fn() -> std::path::PathBuf,
    ) -> Result<(Xattrs, u64)> {
        let mut small = [0; 512];
        let mut large = Vec::new();
        let names = match list(&mut small[..]) {
            Ok(length) => &small[..length],
            Err(Errno::OPNOTSUPP) => return Ok((Xattrs::default(), 0)),
            Err(Errno::RANGE) => {
                large.resize(MAX_LIST, 0);
                let length = list(&mut large).map_err(|error| vanished(error, path, "list the xattrs of"))?;
                &large[..length]
            }
            Err(error) => return Err(vanished(error, path, "list the xattrs of")),
        };
        let mut left_out = 0;
        let mut found = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if !self.filter.takes(name) {
                left_out += 1;
                continue;
            }
            match value(file, name) {
                Ok(value) if value.len() > MAX_VALUE => {
                    let reason = "its value is longer than 65535 bytes";
                    return Err(Error::Xattr { path: path(), name: name.to_vec(), reason });
                }
                Ok(value) => found.push(Xattr { name: name.into(), value: value.into() }),
                Err(Errno::NODATA) => {
                    return Err(Error::Changed { path: path(), what: "lost an xattr" });
                }
                Err(error) => return Err(vanished(error, path, "read an xattr of")),
            }
        }
        found.sort();
        Ok((Arc::from(found), left_out))
    }
}

fn found(name: &[u8], stat: &Stat, kind: Kind, (xattrs, xattrs_left_out): (Xattrs, u64)) -> Found {
    // A directory has one name, but is asked whether it is its own ancestor.
    let is_known = stat.st_nlink > 1 || matches!(kind, Kind::Directory { .. });
    Found {
        name: name.into(),
        what: What::Node(kind),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(stat),
        identity: is_known.then_some((stat.st_dev, stat.st_ino)),
        xattrs,
        xattrs_left_out,
    }
}

/// What a file that is opened later has to agree with.
pub(crate) fn stamp(stat: &Stat) -> Stamp {
    Stamp { dev: stat.st_dev, mtime: mtime(stat) }
}

pub(crate) fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn value(file: &CStr, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    match lgetxattr(file, name, &mut buffer[..]) {
        Err(Errno::RANGE) => {
            buffer.resize(MAX_LIST, 0);
            let length = lgetxattr(file, name, &mut buffer[..])?;
            buffer.truncate(length);
        }
        length => buffer.truncate(length?),
    }
    Ok(buffer)
}

fn vanished(error: Errno, path: &dyn Fn() -> std::path::PathBuf, action: &'static str) -> Error {
    match error {
        Errno::NOENT | Errno::LOOP => {
            Error::Changed { path: path(), what: "vanished or became something else" }
        }
        error => Error::io(&path(), action)(error),
    }
}
