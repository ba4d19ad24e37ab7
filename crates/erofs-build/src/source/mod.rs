//! Where trees and the contents of their files come from.

mod directory;
mod entries;
mod image;
mod layer;
mod paths;
mod skip;
mod tar;

use std::fmt::Debug;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use erofs_format::superblock::{SUPER_MAGIC_V1, SUPER_OFFSET};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Error, Result};
use crate::excludes::Excludes;
use crate::options::BuildOptions;
use crate::progress::Progress;
use crate::tree::{NodeId, SourceId, Tree};
use crate::xattr::Filter;

pub use entries::{Bytes, EntriesSource, SourceEntry, SourceKind};
pub use image::ImageSource;
pub(crate) use layer::{Found, Layer, Listing, ListingId, TOP, What};
pub use skip::Skipped;
pub(crate) use skip::{Skips, Watched};
pub use tar::TarSource;

/// One of the places that a tree comes from. To add a kind of source is to implement this.
pub(crate) trait Source: Debug + Send + Sync {
    /// What messages call it; the paths of its entries are told below it.
    fn path(&self) -> &Path;

    /// Reads everything but the contents of files. Called once, before any file is opened.
    fn scan(&mut self, job: &ScanJob<'_>) -> Result<Layer>;

    /// Whether its files are somebody else's, who may change or remove any of them while the image is built.
    fn is_live(&self) -> bool {
        false
    }

    /// Its files, for one thread.
    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a>;
}

/// What a source goes by when it is read.
#[derive(Clone, Copy)]
pub(crate) struct ScanJob<'a> {
    pub(crate) options: &'a BuildOptions,
    pub(crate) filter: &'a Filter<'a>,
    pub(crate) excludes: &'a Excludes,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) threads: usize,
    /// Takes what can be left out because it can't be read, if anything can.
    pub(crate) skips: Option<&'a Skips>,
}

impl ScanJob<'_> {
    /// Leaves out the entry that the error names; an error if that can't be.
    pub(crate) fn skip(&self, error: Error) -> Result<()> {
        match self.skips {
            Some(skips) => skips.take(error),
            None => Err(error),
        }
    }
}

/// The contents of a tree's files.
pub(crate) trait Contents: Sync {
    /// A view of them for one thread.
    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a>;
}

/// Opens files; may keep open what it needs for the next ones. Files come in about the order of the tree.
pub(crate) trait ContentReader {
    /// Opens the regular file `id`, the one that the tree means and no other.
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>>;
}

/// A file that is open.
pub(crate) trait Content {
    /// Fills `buffer` with the bytes from `at` on; an error if the file ends before.
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()>;

    /// An error unless everything read so far is of the file as it was when the tree was read.
    fn check(&self) -> Result<()>;
}

/// What an image is made from: sources, later ones over earlier ones.
#[derive(Debug, Default)]
pub struct Sources {
    pub(crate) list: Vec<Box<dyn Source>>,
}

impl Sources {
    /// No source yet; an image needs one at least.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays `source` over those that are there.
    pub fn push(&mut self, source: impl Into<Self>) {
        self.list.extend(source.into().list);
    }

    /// What is at `path`: a directory, an EROFS image, or else a tar archive.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(open_to_read(path)?, path)
    }

    /// The same for what is open already, also a pipe; `path` is for messages.
    pub fn from_file(file: File, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let known = file.metadata().map_err(Error::io(&path, "stat"))?;
        if known.is_dir() {
            return Ok(DirSource::from_fd(file.into(), path).into());
        }
        let mut magic = [0; 4];
        let is_image = (known.is_file() || known.file_type().is_block_device())
            && file.read_exact_at(&mut magic, SUPER_OFFSET).is_ok()
            && u32::from_le_bytes(magic) == SUPER_MAGIC_V1;
        Ok(if is_image {
            ImageSource::from_file(file, path)?.into()
        } else {
            TarSource::from_file(file, path).into()
        })
    }

    pub(crate) fn of(source: impl Source + 'static) -> Self {
        Self { list: vec![Box::new(source)] }
    }
}

impl Contents for Sources {
    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        let readers = self.list.iter().map(|_| None).collect();
        Box::new(SourcesReader { sources: self, tree, readers })
    }
}

/// Readers of all sources, made when first needed.
struct SourcesReader<'a> {
    sources: &'a Sources,
    tree: &'a Tree,
    readers: Vec<Option<Box<dyn ContentReader + 'a>>>,
}

impl ContentReader for SourcesReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let source = usize::from(self.tree.node(id).source);
        let (Some(from), Some(reader)) = (self.sources.list.get(source), self.readers.get_mut(source)) else {
            return Err(Error::no_such_source(self.tree, id));
        };
        reader.get_or_insert_with(|| from.reader(self.tree)).open(id)
    }
}

/// Opens a file to read from it; that of a pipe does not wait until somebody writes.
pub(crate) fn open_to_read(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(CWD, path, flags, Mode::empty()).map_err(Error::io(path, "open"))?;
    Ok(File::from(opened))
}

/// How many sources there may be.
pub(crate) const MAX_SOURCES: usize = SourceId::MAX as usize;

/// A directory, held open: renaming it while the image is built changes nothing.
#[derive(Debug)]
pub struct DirSource {
    pub(crate) root: OwnedFd,
    pub(crate) path: PathBuf,
}

impl DirSource {
    /// Opens the directory `path`; a symlink there is followed, none below it ever is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(Error::io(path, "open"))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Takes a directory that is open already; `path` is for messages.
    pub fn from_fd(root: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { root, path: path.into() }
    }

    /// The path that messages name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<DirSource> for Sources {
    fn from(source: DirSource) -> Self {
        Self::of(source)
    }
}
