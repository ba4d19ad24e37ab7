//! An entry of a tree, wherever the tree lies.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use erofs_image::{Image, Inode};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, makedev, openat};

use crate::change::Facts;
use crate::directory::Directory;
use crate::error::{Error, Result};

/// A tree to compare.
#[derive(Clone, Debug)]
pub struct Root(pub(crate) Node);

impl Root {
    /// What lies at `path` of an image. A symbolic link at its end is followed if it leads to a directory.
    pub fn in_image(image: Arc<Image>, path: &[u8]) -> Result<Self> {
        let mut inode = image.resolve(path, false)?;
        if inode.is_symlink() {
            inode = image.resolve(path, true).ok().filter(Inode::is_dir).unwrap_or(inode);
        }
        Ok(Self(Node::of_inode(image, inode)))
    }

    /// The directory, or the single file, at `path`. A symbolic link to a directory is followed there.
    pub fn on_disk(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(top) => {
                let stat = fstat(&top).map_err(Error::io("stat"))?;
                Ok(Self(Node::of_stat(Directory::top(top), c".", &stat)))
            }
            Err(rustix::io::Errno::NOTDIR) => {
                let name = path.file_name().unwrap_or_default();
                let name = CString::new(name.as_bytes()).map_err(|_| Error::Changed)?;
                let above = path.parent().filter(|above| !above.as_os_str().is_empty());
                let above = above.unwrap_or(Path::new("."));
                let above = openat(CWD, above, flags, Mode::empty()).map_err(Error::io("open"))?;
                let above = Directory::top(above);
                let stat = above.stat(&name)?;
                Ok(Self(Node::of_stat(above, &name, &stat)))
            }
            Err(error) => Err(Error::io("open")(error)),
        }
    }

    /// Whether it lies in an image.
    pub fn is_in_image(&self) -> bool {
        matches!(self.0.place, Place::Image { .. })
    }
}

/// An entry that was found.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) facts: Facts,
    pub(crate) place: Place,
}

/// Where an entry lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Image { image: Arc<Image>, inode: Box<Inode> },
    Disk { dir: Arc<Directory>, name: CString, identity: (u64, u64) },
}

impl Node {
    fn of_inode(image: Arc<Image>, inode: Inode) -> Self {
        let facts = Facts {
            mode: inode.mode.into(),
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            mtime: inode.mtime,
            mtime_nsec: inode.mtime_nsec,
            // As Linux packs it: 12 bits of the major number between 8 and 12 of the minor one.
            device: makedev(
                (inode.rdev & 0xf_ff00) >> 8,
                (inode.rdev & 0xff) | ((inode.rdev >> 12) & 0xf_ff00),
            ),
            nlink: inode.nlink.into(),
        };
        Self { facts, place: Place::Image { image, inode: Box::new(inode) } }
    }

    fn of_stat(dir: Arc<Directory>, name: &CStr, stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let has_number = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let facts = Facts {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime: stat.st_mtime,
            mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            device: if has_number { stat.st_rdev } else { 0 },
            nlink: nlink(stat),
        };
        let identity = (stat.st_dev, stat.st_ino);
        Self { facts, place: Place::Disk { dir, name: name.to_owned(), identity } }
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.facts.mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// What all names of one file have in common, within a tree.
    pub(crate) fn identity(&self) -> (u64, u64) {
        match &self.place {
            Place::Image { inode, .. } => (0, inode.nid),
            Place::Disk { identity, .. } => *identity,
        }
    }

    /// The entries of a directory.
    pub(crate) fn list(&self) -> Result<Listing> {
        match &self.place {
            Place::Image { image, inode } => {
                let mut found = Found::default();
                image.read_dir(inode, 0, &mut |entry| {
                    if !matches!(entry.name, b"." | b"..") {
                        found.add(entry.name, entry.nid);
                    }
                    ControlFlow::Continue(())
                })?;
                Ok(Listing { of: Of::Image(Arc::clone(image)), found: found.sorted() })
            }
            Place::Disk { dir, name, .. } => {
                let dir = if name.as_bytes() == b"." { Arc::clone(dir) } else { dir.enter(name)? };
                let mut found = Found::default();
                dir.names(&mut |name| found.add(name.to_bytes(), 0))?;
                Ok(Listing { of: Of::Disk(dir), found: found.sorted() })
            }
        }
    }

    /// The extended attributes that are `wanted`, in order of name.
    pub(crate) fn xattrs(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match &self.place {
            Place::Image { image, inode } => {
                let found = image.xattrs(inode)?.into_iter();
                let mut found: Vec<_> = found
                    .filter(|xattr| wanted(&xattr.name))
                    .map(|xattr| (xattr.name, xattr.value))
                    .collect();
                // An attribute that is stored twice counts as Linux finds it: the first one.
                found.sort_by(|(one, _), (other, _)| one.cmp(other));
                found.dedup_by(|(later, _), (earlier, _)| later == earlier);
                Ok(found)
            }
            Place::Disk { dir, name, .. } => dir.xattrs(name, wanted),
        }
    }

    /// Where a symbolic link points.
    pub(crate) fn target(&self) -> Result<Vec<u8>> {
        match &self.place {
            Place::Image { image, inode } => Ok(image.read_link(inode)?),
            Place::Disk { dir, name, .. } => dir.target(name),
        }
    }

    /// What an image claims as the SHA-256 of a file.
    pub(crate) fn fingerprint(&self) -> Result<Option<[u8; 32]>> {
        match &self.place {
            Place::Image { image, inode } => Ok(image.fingerprint(inode)?),
            Place::Disk { .. } => Ok(None),
        }
    }
}

#[allow(clippy::useless_conversion)] // it has 32 bits on some machines
fn nlink(stat: &Stat) -> u64 {
    u64::from(stat.st_nlink)
}

/// The names in a directory, in order of their bytes, in two allocations.
#[derive(Debug, Default)]
struct Found {
    names: Vec<u8>,
    /// Where a name begins and ends, and the inode in an image.
    entries: Vec<(usize, usize, u64)>,
}

impl Found {
    fn add(&mut self, name: &[u8], nid: u64) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.entries.push((start, self.names.len(), nid));
    }

    fn sorted(mut self) -> Self {
        let Self { names, entries } = &mut self;
        let name = |entry: &(usize, usize, u64)| names.get(entry.0..entry.1).unwrap_or_default();
        entries.sort_by(|one, other| name(one).cmp(name(other)));
        self
    }
}

/// The entries of a directory, in order of name. What they are is asked one by one.
#[derive(Debug)]
pub(crate) struct Listing {
    of: Of,
    found: Found,
}

#[derive(Debug)]
enum Of {
    Image(Arc<Image>),
    Disk(Arc<Directory>),
}

impl Listing {
    /// The name of entry `number`.
    pub(crate) fn name(&self, number: usize) -> Option<&[u8]> {
        let (start, end, _) = self.found.entries.get(number)?;
        self.found.names.get(*start..*end)
    }

    /// Entry `number` itself.
    pub(crate) fn node(&self, number: usize) -> Result<Node> {
        let (start, end, nid) = self.found.entries.get(number).copied().unwrap_or_default();
        match &self.of {
            Of::Image(image) => Ok(Node::of_inode(Arc::clone(image), image.inode(nid)?)),
            Of::Disk(dir) => {
                let name = self.found.names.get(start..end).unwrap_or_default();
                let name = CString::new(name).map_err(|_| Error::Changed)?;
                let stat = dir.stat(&name)?;
                Ok(Node::of_stat(Arc::clone(dir), &name, &stat))
            }
        }
    }
}
