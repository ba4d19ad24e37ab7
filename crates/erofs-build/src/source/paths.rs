//! A layer from entries that come with their paths, in any order: archives and lists.
//!
//! Paths are taken as tar takes them: a leading `/` and `.` mean nothing. What could mean a place outside,
//! `..`, is refused wherever it is. The last of several entries of one path wins, except that a directory
//! keeps what was put into it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::source::ScanJob;
use crate::source::{Found, Layer, Listing, TOP, What};
use crate::tree::Kind;

/// Paths that somebody wrote down, and targets of symlinks, are no longer, in bytes; no system call takes longer
/// ones (`PATH_MAX`, with its NUL). A few bytes of an archive can name a path for a million hard links.
const MAX_PATH: usize = 4095;

/// So many directories at most are made only because something lies in them: a path of a few kilobytes has two
/// thousand, and each takes a kilobyte of memory.
const MAX_IMPLIED: u64 = 1 << 20;

pub(crate) type Index = usize;

const ROOT: Index = 0;

#[derive(Debug)]
enum Item {
    File(Found),
    Directory(Found, BTreeMap<Box<[u8]>, Index>),
    /// A hard link to a path that was not there yet, by its components.
    Link(Box<[u8]>),
}

/// A link to a path that was not there yet.
#[derive(Debug)]
struct Waiting {
    dir: Index,
    name: Box<[u8]>,
    /// The link's own, for messages.
    path: Box<[u8]>,
}

/// Where directories are: the number of the one that each lies in, and its name. Of a million that lie deep, whole
/// paths would be too much to keep.
struct Ways(Vec<(usize, Box<[u8]>)>);

impl Ways {
    fn add(&mut self, above: usize, name: &[u8]) -> usize {
        self.0.push((above, name.into()));
        self.0.len() - 1
    }

    fn path(&self, mut at: usize) -> PathBuf {
        let mut names = Vec::new();
        while at != 0
            && let Some((above, name)) = self.0.get(at)
        {
            names.push(OsStr::from_bytes(name));
            at = *above;
        }
        names.iter().rev().collect()
    }
}

/// Takes entries and becomes a layer.
#[derive(Debug)]
pub(crate) struct PathTree<'a> {
    /// The source's name, for messages.
    source: &'a Path,
    items: Vec<Item>,
    waiting: Vec<Waiting>,
    /// Directories that were made on the way to others.
    implied: u64,
    /// Bytes that a path may have.
    longest: usize,
}

impl<'a> PathTree<'a> {
    pub(crate) fn new(source: &'a Path) -> Self {
        Self {
            source,
            items: vec![Item::Directory(Found::implied(Box::default()), BTreeMap::new())],
            waiting: Vec::new(),
            implied: 0,
            longest: MAX_PATH,
        }
    }

    /// For paths of any length: whoever adds entries has bounds of its own on how deep they are.
    pub(crate) fn of_any_depth(source: &'a Path) -> Self {
        Self { longest: usize::MAX, ..Self::new(source) }
    }

    /// The path of an entry in messages.
    pub(crate) fn message_path(&self, path: &[u8]) -> PathBuf {
        let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
        self.source.join(OsStr::from_bytes(path.get(start..).unwrap_or_default()))
    }

    /// Adds an entry; its name is set here. The index is for [`PathTree::name_again`].
    pub(crate) fn add(&mut self, path: &[u8], mut found: Found) -> Result<Index> {
        let names = self.split(path)?;
        let Some((name, above)) = names.split_last() else {
            if !found.what.is_dir() {
                return self.bad_name(path, "it means the root, which has to be a directory");
            }
            if let Some(Item::Directory(root, _)) = self.items.first_mut() {
                *root = found;
            }
            return Ok(ROOT);
        };
        if let What::Node(Kind::Symlink(target)) = &found.what {
            self.check_target(path, target)?;
        }
        found.name = (*name).into();
        let dir = self.directory(path, above)?;
        let old = self.child(dir, name);
        let is_dir = found.what.is_dir();
        if let Some(old) = old
            && let Some(Item::Directory(known, _)) = self.items.get_mut(old)
            && is_dir
        {
            *known = found;
            return Ok(old);
        }
        let item = if is_dir { Item::Directory(found, BTreeMap::new()) } else { Item::File(found) };
        Ok(self.put(dir, name, item))
    }

    /// Adds another name for a file that was added.
    pub(crate) fn name_again(&mut self, path: &[u8], file: Index) -> Result<()> {
        let names = self.split(path)?;
        let Some((name, above)) = names.split_last() else {
            return self.bad_name(path, "it means the root, which has to be a directory");
        };
        let dir = self.directory(path, above)?;
        self.name(dir, name, file);
        Ok(())
    }

    /// Adds another name for the file at `target`, which may come later.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let names = self.split(path)?;
        let Some((name, above)) = names.split_last() else {
            return self.bad_name(path, "it means the root, which has to be a directory");
        };
        let wanted = self.split(target)?;
        if wanted == names {
            return self.bad_name(path, "it is a hard link to itself");
        }
        let found = self.find(&wanted);
        let dir = self.directory(path, above)?;
        match found.map(|found| (found, self.items.get(found))) {
            Some((_, Some(Item::Directory(..)))) => self.bad_name(path, "it is a hard link to a directory"),
            Some((found, Some(Item::File(_)))) => {
                self.name(dir, name, found);
                Ok(())
            }
            _ => {
                self.put(dir, name, Item::Link(target.into()));
                self.waiting.push(Waiting { dir, name: (*name).into(), path: path.into() });
                Ok(())
            }
        }
    }

    /// The layer, without what a pattern leaves out.
    pub(crate) fn finish(mut self, job: &ScanJob<'_>) -> Result<Layer> {
        self.resolve_links()?;
        let mut names = HashMap::<Index, u64>::new();
        for item in &self.items {
            if let Item::Directory(_, children) = item {
                for child in children.values() {
                    *names.entry(*child).or_default() += 1;
                }
            }
        }
        let mut layer = Layer { root: Found::implied(Box::default()), listings: HashMap::new(), excluded: 0 };
        let mut directories = VecDeque::from([(ROOT, TOP, 0)]);
        let mut ways = Ways(vec![(0, Box::default())]);
        let mut last = TOP;
        while let Some((index, id, way)) = directories.pop_front() {
            let Some(item) = self.items.get_mut(index) else { continue };
            let Item::Directory(found, children) = item else { continue };
            if index == ROOT {
                layer.root = std::mem::replace(found, Found::implied(Box::default()));
            }
            let children = std::mem::take(children);
            let mut listing = Listing::default();
            let path = ways.path(way);
            for (name, child) in children {
                let is_named_again = names.get(&child).is_some_and(|names| *names > 1);
                let (mut found, is_dir) = match self.items.get_mut(child) {
                    Some(Item::Directory(found, _)) => {
                        (std::mem::replace(found, Found::implied(Box::default())), true)
                    }
                    Some(Item::File(found)) if is_named_again => (found.clone(), false),
                    Some(Item::File(found)) => {
                        (std::mem::replace(found, Found::implied(Box::default())), false)
                    }
                    _ => continue,
                };
                let mut below = 0;
                if job.excludes.has_patterns() {
                    if job.excludes.excludes(&path.join(OsStr::from_bytes(&name)), is_dir) {
                        layer.excluded += 1;
                        continue;
                    }
                    if is_dir {
                        below = ways.add(way, &name);
                    }
                }
                found.name = name;
                found.identity = is_named_again.then_some((0, child as u64));
                let mut number = None;
                if is_dir {
                    last = last.checked_add(1).ok_or_else(|| Error::TooLarge {
                        path: self.source.to_owned(),
                        what: "directories",
                        found: u64::from(u32::MAX) + 1,
                        limit: u32::MAX.into(),
                    })?;
                    number = Some(last);
                    directories.push_back((child, last, below));
                }
                listing.entries.push((found, number));
            }
            job.progress.advance(listing.entries.len() as u64, 0);
            layer.listings.insert(id, listing);
        }
        Ok(layer)
    }

    /// Gives links that came before what they lead to their files.
    fn resolve_links(&mut self) -> Result<()> {
        // Where links lead in the end, so that no chain of them is followed twice.
        let mut ends = HashMap::<Index, Index>::new();
        for Waiting { dir, name, path } in std::mem::take(&mut self.waiting) {
            let Some(mut at) = self.child(dir, &name) else { continue };
            let path = || self.message_path(&path);
            let mut way = Vec::new();
            while let Some(Item::Link(target)) = self.items.get(at) {
                if let Some(end) = ends.get(&at) {
                    at = *end;
                    break;
                }
                way.push(at);
                if way.len() > self.items.len() {
                    return Err(Error::Name { path: path(), reason: "it is a hard link in a circle" });
                }
                at = self
                    .find(&self.split(target)?)
                    .ok_or_else(|| Error::LinkTarget { path: path(), target: target.to_vec() })?;
            }
            if matches!(self.items.get(at), Some(Item::Directory(..))) {
                return Err(Error::Name { path: path(), reason: "it is a hard link to a directory" });
            }
            ends.extend(way.into_iter().map(|link| (link, at)));
            self.name(dir, &name, at);
        }
        Ok(())
    }

    fn check_target(&self, path: &[u8], target: &[u8]) -> Result<()> {
        let reason = if target.is_empty() {
            "it is empty"
        } else if target.contains(&0) {
            "it contains a NUL byte"
        } else if target.len() > MAX_PATH {
            "it is longer than 4095 bytes"
        } else {
            return Ok(());
        };
        Err(Error::Symlink { path: self.message_path(path), reason })
    }

    fn split<'p>(&self, path: &'p [u8]) -> Result<Vec<&'p [u8]>> {
        if path.len() > self.longest {
            let start = path.get(..64).unwrap_or_default();
            return self.bad_name(
                start,
                "it begins a path of more than 4095 bytes, which archives and lists may not have",
            );
        }
        let names: Vec<_> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
        if names.contains(&&b".."[..]) {
            return self.bad_name(path, "it climbs with \"..\", and might mean something outside");
        }
        Ok(names)
    }

    /// The directory of these names, made if it is not there.
    fn directory(&mut self, path: &[u8], names: &[&[u8]]) -> Result<Index> {
        let mut at = ROOT;
        for name in names {
            at = match self.child(at, name) {
                Some(child) if matches!(self.items.get(child), Some(Item::Directory(..))) => child,
                Some(_) => return self.bad_name(path, "what it lies in is no directory"),
                None => {
                    self.implied += 1;
                    if self.implied > MAX_IMPLIED {
                        return self.bad_name(
                            path,
                            "with it, more than a million directories have no entry of their own",
                        );
                    }
                    let implied = Found::implied((*name).into());
                    self.put(at, name, Item::Directory(implied, BTreeMap::new()))
                }
            };
        }
        Ok(at)
    }

    fn find(&self, names: &[&[u8]]) -> Option<Index> {
        names.iter().try_fold(ROOT, |at, name| self.child(at, name))
    }

    fn child(&self, dir: Index, name: &[u8]) -> Option<Index> {
        match self.items.get(dir) {
            Some(Item::Directory(_, children)) => children.get(name).copied(),
            _ => None,
        }
    }

    fn put(&mut self, dir: Index, name: &[u8], item: Item) -> Index {
        let index = self.items.len();
        self.items.push(item);
        self.name(dir, name, index);
        index
    }

    fn name(&mut self, dir: Index, name: &[u8], index: Index) {
        if let Some(Item::Directory(_, children)) = self.items.get_mut(dir) {
            children.insert(name.into(), index);
        }
    }

    fn bad_name<T>(&self, path: &[u8], reason: &'static str) -> Result<T> {
        Err(Error::Name { path: self.message_path(path), reason })
    }
}
