//! Walking a tree: every inode once for each name, directories before what is in them.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use crate::error::{Corruption, Error, Result, Where, printable};
use crate::image::Image;
use crate::inode::Inode;

/// How many entries of a directory are fetched at a time.
const BATCH: usize = 256;

/// A step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkEntry {
    /// The path from where the walk started, names joined by slashes; empty at the start itself.
    pub path: Vec<u8>,
    /// How many names the path has.
    pub depth: u64,
    /// What it leads to.
    pub inode: Inode,
}

impl WalkEntry {
    /// The last name of the path.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// An error in a walk and the path it belongs to.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", printable(.path))]
#[non_exhaustive]
pub struct WalkError {
    /// The path from where the walk started.
    pub path: Vec<u8>,
    /// What is wrong there.
    #[source]
    pub error: Error,
}

impl From<WalkError> for Error {
    fn from(failed: WalkError) -> Self {
        failed.error
    }
}

impl Image {
    /// Walks the tree from `start` on: `start` itself, then what is in it, directories before what
    /// is in them, names in order. An entry that cannot be read is an error, and the walk goes on
    /// behind it; only a limit of the whole walk ends it. A directory that is reached a second time
    /// is an error, so that a loop has an end.
    pub fn walk<'a>(&'a self, start: &Inode) -> Walk<'a> {
        Walk { image: self, cursor: self.walk_cursor(start) }
    }

    /// The same walk for callers that cannot borrow the image meanwhile: each step is
    /// [`WalkCursor::step`] on this image.
    pub fn walk_cursor(&self, start: &Inode) -> WalkCursor {
        WalkCursor {
            start: Some(*start),
            frames: Vec::new(),
            path: Vec::new(),
            seen: HashSet::new(),
            left: self.limits().walk_entries,
        }
    }
}

/// The steps of a walk, see [`Image::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    image: &'a Image,
    cursor: WalkCursor,
}

impl Iterator for Walk<'_> {
    type Item = std::result::Result<WalkEntry, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.step(self.image)
    }
}

impl Walk<'_> {
    /// Does not go into the directory that the last step led to.
    pub fn skip_dir(&mut self) {
        self.cursor.skip_dir();
    }
}

/// Where a walk is, see [`Image::walk_cursor`].
#[derive(Debug)]
pub struct WalkCursor {
    start: Option<Inode>,
    frames: Vec<Frame>,
    /// Path of the directory on top of `frames`.
    path: Vec<u8>,
    /// Directories that the walk has been in.
    seen: HashSet<u64>,
    left: u64,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Frame {
    dir: Inode,
    /// Where to go on reading, or `None` at its end.
    next: Option<u64>,
    /// Entries that have been read and not been visited.
    batch: VecDeque<(u64, Vec<u8>)>,
    /// How long the path of the directory above is.
    parent_path: usize,
}

impl WalkCursor {
    /// The next step in `image`, which must be the one that the walk was begun in; `None` at the end.
    pub fn step(&mut self, image: &Image) -> Option<std::result::Result<WalkEntry, WalkError>> {
        if let Some(start) = self.start.take() {
            return Some(self.visit(image, start, Vec::new()));
        }
        loop {
            let frame = self.frames.last_mut()?;
            if let Some((nid, name)) = frame.batch.pop_front() {
                return Some(self.enter_name(image, nid, &name));
            }
            let Some(next) = frame.next else {
                let parent_path = frame.parent_path;
                self.frames.pop();
                self.path.truncate(parent_path);
                continue;
            };
            if let Err(error) = frame.fill(image, next) {
                frame.next = None;
                return Some(Err(WalkError { path: self.path.clone(), error }));
            }
        }
    }

    /// Does not go into the directory that the last step led to.
    pub fn skip_dir(&mut self) {
        if let Some(frame) = self.frames.pop_if(|frame| frame.next == Some(0)) {
            self.path.truncate(frame.parent_path);
        }
    }

    fn enter_name(
        &mut self,
        image: &Image,
        nid: u64,
        name: &[u8],
    ) -> std::result::Result<WalkEntry, WalkError> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let limit = image.limits().walk_entries;
        let Some(left) = self.left.checked_sub(1) else {
            self.frames.clear();
            let value = limit.saturating_add(1);
            let error = Error::Limit { place: Where::nid(nid), name: "walk_entries", value, limit };
            return Err(WalkError { path, error });
        };
        self.left = left;
        match image.inode(nid) {
            Ok(inode) => self.visit(image, inode, path),
            Err(error) => Err(WalkError { path, error }),
        }
    }

    fn visit(
        &mut self,
        image: &Image,
        inode: Inode,
        path: Vec<u8>,
    ) -> std::result::Result<WalkEntry, WalkError> {
        let depth = self.frames.len() as u64;
        if inode.is_dir() {
            if let Err(error) = self.enter(image, inode, depth) {
                return Err(WalkError { path, error });
            }
            let parent_path = self.path.len();
            self.frames.push(Frame { dir: inode, next: Some(0), batch: VecDeque::new(), parent_path });
            self.path.clone_from(&path);
        }
        Ok(WalkEntry { path, depth, inode })
    }

    fn enter(&mut self, image: &Image, dir: Inode, depth: u64) -> Result<()> {
        let place = Where::nid(dir.nid);
        let limit = image.limits().depth;
        if depth >= limit {
            return Err(Error::Limit { place, name: "depth", value: depth.saturating_add(1), limit });
        }
        if self.seen.insert(dir.nid) {
            Ok(())
        } else {
            Err(Error::corrupt(place, Corruption::DirectoryTwice))
        }
    }
}

impl Frame {
    /// Reads the next entries. What was read before an error is kept.
    fn fill(&mut self, image: &Image, from: u64) -> Result<()> {
        self.next = None;
        let (batch, next) = (&mut self.batch, &mut self.next);
        image.read_dir(&self.dir, from, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                batch.push_back((entry.nid, entry.name.to_vec()));
            }
            if batch.len() < BATCH {
                return ControlFlow::Continue(());
            }
            *next = Some(entry.next);
            ControlFlow::Break(())
        })
    }
}
