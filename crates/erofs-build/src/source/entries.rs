//! A tree that the caller describes entry by entry; contents are bytes, files, or parts of files.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::fstat;

use crate::error::{Error, Result};
use crate::source::directory::{holes, stamp};
use crate::source::paths::PathTree;
use crate::source::{Content, ContentReader, ScanJob, Source, Sources, open_to_read};
use crate::source::{Found, Layer, What};
use crate::tree::{Key, Kind, NodeId, Regular, Stamp, Tree, device_number};

/// An entry of an [`EntriesSource`].
#[derive(Debug, Clone)]
pub struct SourceEntry {
    /// Its path from the root, as in a tar archive; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: SourceKind,
    /// Permissions as in `st_mode`; a type is ignored.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds below 1,000,000,000.
    pub mtime: (i64, u32),
    /// Names and values of extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Contents in memory, of whatever owns them.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// What a [`SourceEntry`] is.
#[derive(Clone)]
#[non_exhaustive]
pub enum SourceKind {
    /// A directory; one that nothing is said about is made when something lies in it.
    Directory,
    /// A regular file with these bytes.
    Bytes(Bytes),
    /// A regular file with the bytes of this one.
    File(PathBuf),
    /// A regular file with some of the bytes of an open file.
    Part {
        /// The file.
        file: Arc<File>,
        /// Where the bytes start.
        offset: u64,
        /// How many there are.
        size: u64,
    },
    /// A symlink with this target.
    Symlink(Vec<u8>),
    /// One more name for the file of this path, which may come later; nothing else of the entry counts.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u64,
        /// Its minor number.
        minor: u64,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u64,
        /// Its minor number.
        minor: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "Directory",
            Self::Bytes(_) => "Bytes",
            Self::File(_) => "File",
            Self::Part { .. } => "Part",
            Self::Symlink(_) => "Symlink",
            Self::HardLink(_) => "HardLink",
            Self::CharDevice { .. } => "CharDevice",
            Self::BlockDevice { .. } => "BlockDevice",
            Self::Fifo => "Fifo",
            Self::Socket => "Socket",
        })
    }
}

/// Where the bytes of an entry are.
enum Stored {
    Bytes(Bytes),
    File(PathBuf, Stamp),
    Part(Arc<File>, u64),
}

/// Entries handed over in memory.
pub struct EntriesSource {
    path: PathBuf,
    entries: Vec<SourceEntry>,
    stored: Vec<Stored>,
}

impl fmt::Debug for EntriesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntriesSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl EntriesSource {
    /// Takes entries, of which the last of each path counts; `path` is for messages.
    pub fn new(entries: Vec<SourceEntry>, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), entries, stored: Vec::new() }
    }
}

impl From<EntriesSource> for Sources {
    fn from(source: EntriesSource) -> Self {
        Self::of(source)
    }
}

impl Source for EntriesSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn scan(&mut self, job: &ScanJob<'_>) -> Result<Layer> {
        let mut tree = PathTree::new(&self.path);
        for entry in std::mem::take(&mut self.entries) {
            job.options.check_cancelled()?;
            if let SourceKind::HardLink(target) = &entry.kind {
                tree.link(&entry.path, target)?;
                continue;
            }
            let found = found(&tree, job, &mut self.stored, &entry)?;
            tree.add(&entry.path, found)?;
        }
        tree.finish(job)
    }

    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        Box::new(EntriesReader { stored: &self.stored, tree })
    }
}

fn found(
    tree: &PathTree<'_>,
    job: &ScanJob<'_>,
    stored: &mut Vec<Stored>,
    entry: &SourceEntry,
) -> Result<Found> {
    let path = || tree.message_path(&entry.path);
    let (xattrs, xattrs_left_out) = job.filter.pick(entry.xattrs.clone(), &path)?;
    let key = Key::Number(stored.len() as u64);
    let kind = match &entry.kind {
        SourceKind::Directory | SourceKind::HardLink(_) => Kind::Directory { first: 0, count: 0 },
        SourceKind::Bytes(bytes) => {
            stored.push(Stored::Bytes(Arc::clone(bytes)));
            Kind::Regular(Regular { size: (**bytes).as_ref().len() as u64, data: None, key })
        }
        SourceKind::File(file) => {
            let (regular, stamp) = look_at(job, file, key)?;
            stored.push(Stored::File(file.clone(), stamp));
            Kind::Regular(regular)
        }
        SourceKind::Part { file, offset, size } => {
            let end = offset.checked_add(*size).filter(|end| i64::try_from(*end).is_ok());
            end.ok_or_else(|| Error::TooLarge {
                path: path(),
                what: "end of a part of a file",
                found: offset.saturating_add(*size),
                limit: i64::MAX.unsigned_abs(),
            })?;
            stored.push(Stored::Part(Arc::clone(file), *offset));
            Kind::Regular(Regular { size: *size, data: None, key })
        }
        SourceKind::Symlink(target) => Kind::Symlink(target.clone().into()),
        SourceKind::CharDevice { major, minor } => Kind::CharDevice(device_number(*major, *minor, &path)?),
        SourceKind::BlockDevice { major, minor } => Kind::BlockDevice(device_number(*major, *minor, &path)?),
        SourceKind::Fifo => Kind::Fifo,
        SourceKind::Socket => Kind::Socket,
    };
    if entry.mtime.1 >= 1_000_000_000 {
        let (name, reason) = ("mtime", format!("{}: nanoseconds of a second or more", path().display()));
        return Err(Error::Option { name, reason });
    }
    Ok(Found {
        what: What::Node(kind),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs,
        xattrs_left_out,
        ..Found::implied(Box::default())
    })
}

/// Size, holes and stamp of a file that has the contents of an entry.
fn look_at(job: &ScanJob<'_>, path: &Path, key: Key) -> Result<(Regular, Stamp)> {
    let file = open_file(path)?;
    let stat = fstat(&file).map_err(Error::io(path, "stat"))?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let block_size = u64::from(job.options.block_size);
    let data = if job.options.holes && size > block_size {
        holes::segments(file.as_fd(), size, block_size).map_err(Error::io(path, "find the holes of"))?
    } else {
        None
    };
    Ok((Regular { size, data, key }, stamp(&stat)))
}

/// Opens a regular file; a symlink is followed, since the caller named it.
fn open_file(path: &Path) -> Result<File> {
    let file = open_to_read(path)?;
    if file.metadata().map_err(Error::io(path, "stat"))?.is_file() {
        return Ok(file);
    }
    let what = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    Err(Error::Io { path: path.to_owned(), action: "read", source: what })
}

struct EntriesReader<'a> {
    stored: &'a [Stored],
    tree: &'a Tree,
}

enum Opened<'a> {
    Memory(&'a [u8]),
    File(&'a File, u64),
    Named(File, Stamp),
}

struct EntryFile<'a> {
    bytes: Opened<'a>,
    size: u64,
    tree: &'a Tree,
    id: NodeId,
}

impl ContentReader for EntriesReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let Kind::Regular(Regular { key: Key::Number(number), size, .. }) = self.tree.node(id).kind else {
            return Err(Error::no_such_source(self.tree, id));
        };
        let stored = usize::try_from(number).ok().and_then(|number| self.stored.get(number));
        let bytes = match stored.ok_or_else(|| Error::no_such_source(self.tree, id))? {
            Stored::Bytes(bytes) => Opened::Memory((**bytes).as_ref()),
            Stored::Part(file, offset) => Opened::File(file, *offset),
            Stored::File(path, stamp) => Opened::Named(open_file(path)?, *stamp),
        };
        Ok(Box::new(EntryFile { bytes, size, tree: self.tree, id }))
    }
}

impl Content for EntryFile<'_> {
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let path = || self.tree.path_of(self.id);
        let read = match &self.bytes {
            Opened::Memory(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let part = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
                part.map(|part| buffer.copy_from_slice(part)).ok_or(io::ErrorKind::UnexpectedEof.into())
            }
            Opened::File(file, offset) => file.read_exact_at(buffer, offset.saturating_add(at)),
            Opened::Named(file, _) => file.read_exact_at(buffer, at),
        };
        read.map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Changed { path: path(), what: "became shorter" },
            _ => Error::io(&path(), "read")(error),
        })
    }

    fn check(&self) -> Result<()> {
        let Opened::Named(file, known) = &self.bytes else { return Ok(()) };
        let path = || self.tree.path_of(self.id);
        let stat = fstat(file).map_err(|error| Error::io(&path(), "stat")(error))?;
        if u64::try_from(stat.st_size) != Ok(self.size) || stamp(&stat) != *known {
            return Err(Error::Changed { path: path(), what: "was changed or replaced" });
        }
        Ok(())
    }
}
