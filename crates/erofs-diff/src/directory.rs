//! Directories on disk: read by descriptor, following no symbolic link below the top.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, lgetxattr, llistxattr, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Directories whose descriptors are kept for their entries; entries of others open theirs from above again.
const MAX_KEPT: usize = 192;

/// The largest list of names, and the largest value, that Linux has.
const MAX_XATTR: usize = 65536;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// A directory that was entered.
#[derive(Debug)]
pub(crate) struct Directory {
    above: Option<(Arc<Directory>, CString)>,
    /// None where enough others are open.
    fd: Option<OwnedFd>,
    kept: Arc<AtomicUsize>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.fd.is_some() {
            self.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Directory {
    /// The top of a tree.
    pub(crate) fn top(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { above: None, fd: Some(fd), kept: Arc::new(AtomicUsize::new(1)) })
    }

    /// Enters a directory of this one.
    pub(crate) fn enter(self: &Arc<Self>, name: &CStr) -> Result<Arc<Self>> {
        let fd = self.with(|here| open_unseen(here, name, DIRECTORY)).map_err(Error::io("open"))?;
        let fd = if self.kept.fetch_add(1, Ordering::Relaxed) < MAX_KEPT {
            Some(fd)
        } else {
            self.kept.fetch_sub(1, Ordering::Relaxed);
            None
        };
        Ok(Arc::new(Self {
            above: Some((Arc::clone(self), name.to_owned())),
            fd,
            kept: Arc::clone(&self.kept),
        }))
    }

    /// Does something with the directory's descriptor.
    fn with<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        if let Some(fd) = &self.fd {
            return act(fd.as_fd());
        }
        let mut names = Vec::new();
        let mut at = self;
        while let (None, Some((above, name))) = (&at.fd, &at.above) {
            names.push(name);
            at = above;
        }
        let mut opened: Option<OwnedFd> = None;
        for name in names.into_iter().rev() {
            let from = opened.as_ref().or(at.fd.as_ref()).ok_or(Errno::BADF)?;
            opened = Some(open_unseen(from.as_fd(), name, DIRECTORY)?);
        }
        act(opened.as_ref().or(at.fd.as_ref()).ok_or(Errno::BADF)?.as_fd())
    }

    /// The names of its entries, in the system's order.
    pub(crate) fn names(&self, visit: &mut dyn FnMut(&CStr)) -> Result<()> {
        self.with(|here| {
            for entry in Dir::read_from(here)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    visit(entry.file_name());
                }
            }
            Ok(())
        })
        .map_err(Error::io("list the directory"))
    }

    /// The attributes of an entry.
    pub(crate) fn stat(&self, name: &CStr) -> Result<Stat> {
        self.with(|here| statat(here, name, AtFlags::SYMLINK_NOFOLLOW)).map_err(Error::io("stat"))
    }

    /// Where a symbolic link points.
    pub(crate) fn target(&self, name: &CStr) -> Result<Vec<u8>> {
        let target =
            self.with(|here| readlinkat(here, name, Vec::new())).map_err(Error::io("read the link"))?;
        Ok(target.into_bytes())
    }

    /// Opens a regular file, the one that `stat` was about.
    pub(crate) fn open(&self, name: &CStr, identity: (u64, u64)) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.with(|here| open_unseen(here, name, flags)).map_err(Error::io("open"))?;
        let stat = fstat(&file).map_err(Error::io("stat"))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if regular && (stat.st_dev, stat.st_ino) == identity { Ok(file.into()) } else { Err(Error::Changed) }
    }

    /// The extended attributes of an entry, in order of name.
    pub(crate) fn xattrs(
        &self,
        name: &CStr,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let found = self.with(|here| {
            // There is no listxattrat before Linux 6.13; this is the same for every kernel.
            let prefix = format!("/proc/self/fd/{}/", here.as_raw_fd());
            let path =
                CString::new([prefix.as_bytes(), name.to_bytes()].concat()).map_err(|_| Errno::INVAL)?;
            let mut small = [0; 1024];
            let mut large = Vec::new();
            let names = match llistxattr(&*path, &mut small[..]) {
                Ok(length) => &small[..length.min(small.len())],
                Err(Errno::OPNOTSUPP) => &[],
                Err(Errno::RANGE) => {
                    large.resize(MAX_XATTR, 0);
                    let length = llistxattr(&*path, &mut large[..])?;
                    &large[..length.min(MAX_XATTR)]
                }
                Err(error) => return Err(error),
            };
            let mut found = Vec::new();
            for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
                match value(&path, name) {
                    Ok(value) => found.push((name.to_vec(), value)),
                    Err(Errno::NODATA) => {} // it went meanwhile
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        });
        let mut found = found.map_err(Error::io("read the extended attributes"))?;
        found.sort_unstable();
        Ok(found)
    }
}

fn value(path: &CStr, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = match lgetxattr(path, name, &mut buffer[..]) {
        Err(Errno::RANGE) => {
            buffer.resize(MAX_XATTR, 0);
            lgetxattr(path, name, &mut buffer[..])?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// Opens without touching the access time, which only the owner may ask for, or else as usual.
fn open_unseen(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}
