//! An EROFS image as a source: its tree is built anew, its files are read and decoded.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_image::{DataLayout, FileSource, FileType, Image, Inode, OpenOptions, Place};

use crate::error::{Error, Result};
use crate::source::directory::holes;
use crate::source::paths::{Index, PathTree};
use crate::source::{Content, ContentReader, ScanJob, Source, Sources, open_to_read};
use crate::source::{Found, Layer, What};
use crate::tree::{Key, Kind, NodeId, Regular, Segment, Tree};
use crate::xattr::Xattrs;

/// An EROFS image, of any layout that the reader knows.
#[derive(Debug)]
pub struct ImageSource {
    image: Arc<Image>,
    path: PathBuf,
}

impl ImageSource {
    /// Opens the image `path`, which must have no further blobs.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(open_to_read(path)?, path)
    }

    /// Takes an image's file that is open; `path` is for messages.
    pub fn from_file(file: File, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match Image::open(Arc::new(FileSource::new(file)), OpenOptions::default()) {
            Ok(image) => Ok(Self::new(Arc::new(image), path)),
            Err(source) => Err(Error::Image { path, source }),
        }
    }

    /// Takes an image that is open; `path` is for messages.
    pub fn new(image: Arc<Image>, path: impl Into<PathBuf>) -> Self {
        Self { image, path: path.into() }
    }

    /// Adds what the walk met under a path. `names` knows the files that may have several.
    fn add(
        &self,
        tree: &mut PathTree<'_>,
        job: &ScanJob<'_>,
        (at, inode): (&[u8], &Inode),
        names: &mut HashMap<u64, Index>,
    ) -> Result<()> {
        let is_named_again = inode.nlink > 1 && !inode.is_dir();
        if is_named_again && let Some(first) = names.get(&inode.nid) {
            return tree.name_again(at, *first);
        }
        let path = || tree.message_path(at);
        let fail = |source| Error::Image { path: path(), source };
        let (xattrs, xattrs_left_out) = if job.filter.takes_none() {
            (Xattrs::default(), 0)
        } else {
            // A fingerprint is a claim about bytes, and is made anew if it is wanted.
            let own = self.image.fingerprint_name();
            let all = self.image.xattrs(inode).map_err(fail)?.into_iter();
            let all = all.filter(|xattr| Some(&xattr.name) != own.as_ref());
            job.filter.pick(all.map(|xattr| (xattr.name, xattr.value)).collect(), &path)?
        };
        let kind = match inode.file_type() {
            FileType::Directory => Kind::Directory { first: 0, count: 0 },
            FileType::Regular => Kind::Regular(self.regular(job, inode).map_err(fail)?),
            FileType::Symlink => Kind::Symlink(self.image.read_link(inode).map_err(fail)?.into()),
            FileType::CharDevice => Kind::CharDevice(inode.rdev),
            FileType::BlockDevice => Kind::BlockDevice(inode.rdev),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
        };
        let found = Found {
            what: What::Node(kind),
            mode: inode.mode.into(),
            uid: inode.uid,
            gid: inode.gid,
            mtime: (inode.mtime, inode.mtime_nsec),
            xattrs,
            xattrs_left_out,
            ..Found::implied(Box::default())
        };
        let index = tree.add(at, found)?;
        if is_named_again {
            names.insert(inode.nid, index);
        }
        Ok(())
    }

    fn regular(&self, job: &ScanJob<'_>, inode: &Inode) -> erofs_image::Result<Regular> {
        let block_size = u64::from(job.options.block_size);
        let mut data = None;
        if job.options.holes && inode.size > block_size && inode.layout == DataLayout::ChunkBased {
            let mut failed = None;
            let parts = self.image.extents(inode).map_while(|extent| match extent {
                Ok(extent) => Some(extent),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            let parts = parts.filter(|extent| extent.place != Place::Hole);
            let parts = parts.map(|extent| Segment {
                start: extent.logical,
                end: extent.logical.saturating_add(extent.len),
            });
            data = holes::of_parts(parts, inode.size, block_size);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(Regular { size: inode.size, data, key: Key::Number(inode.nid) })
    }
}

impl From<ImageSource> for Sources {
    fn from(source: ImageSource) -> Self {
        Self::of(source)
    }
}

impl Source for ImageSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn scan(&mut self, job: &ScanJob<'_>) -> Result<Layer> {
        let mut tree = PathTree::of_any_depth(&self.path);
        let mut names = HashMap::new();
        let fail = |source| Error::Image { path: self.path.clone(), source };
        let root = self.image.inode(self.image.root_nid()).map_err(fail)?;
        for step in self.image.walk(&root) {
            job.options.check_cancelled()?;
            let entry = step.map_err(|failed| Error::Image {
                path: tree.message_path(&failed.path),
                source: failed.error,
            })?;
            self.add(&mut tree, job, (&entry.path, &entry.inode), &mut names)?;
        }
        tree.finish(job)
    }

    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        Box::new(ImageReader { image: &self.image, tree })
    }
}

struct ImageReader<'a> {
    image: &'a Image,
    tree: &'a Tree,
}

impl ContentReader for ImageReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let Kind::Regular(Regular { key: Key::Number(nid), .. }) = self.tree.node(id).kind else {
            return Err(Error::no_such_source(self.tree, id));
        };
        let inode =
            self.image.inode(nid).map_err(|source| Error::Image { path: self.tree.path_of(id), source })?;
        Ok(Box::new(ImageFile { image: self.image, inode, tree: self.tree, id }))
    }
}

struct ImageFile<'a> {
    image: &'a Image,
    inode: Inode,
    tree: &'a Tree,
    id: NodeId,
}

impl Content for ImageFile<'_> {
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let path = || self.tree.path_of(self.id);
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = self.image.read(&self.inode, at.saturating_add(done as u64), rest);
            match read.map_err(|source| Error::Image { path: path(), source })? {
                0 => return Err(Error::Changed { path: path(), what: "became shorter" }),
                length => done += length,
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
