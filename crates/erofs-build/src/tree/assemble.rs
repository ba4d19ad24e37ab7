//! Puts layers together: merges them, numbers nodes, joins hard links, applies owners and times.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_format::dirent::NAME_LEN;

use crate::error::{Error, Result};
use crate::options::{BuildOptions, Whiteouts};
use crate::source::{Found, Layer, Listing, ListingId, TOP, What};
use crate::tree::owners::Id;
use crate::tree::{Entry, Kind, Names, Node, NodeId, ROOT, SourceId, Tree};
use crate::xattr::{Sets, Xattrs};

/// So many entries are worth the time to give the memory back that they no longer need.
const GIVE_BACK: usize = 1 << 17;

/// A tree with what belongs to it.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) tree: Tree,
    pub(crate) sets: Sets,
    pub(crate) excluded: u64,
    pub(crate) xattrs_left_out: u64,
}

/// The tree of all layers, each with the path that messages about it name; later ones over earlier ones.
pub(crate) fn assemble(options: &BuildOptions, layers: Vec<(PathBuf, Layer)>) -> Result<Assembled> {
    let (sources, mut layers): (_, Vec<_>) = layers.into_iter().unzip();
    let excluded = layers.iter().map(|layer| layer.excluded).sum();
    // The newest layer that says something about the root says what it is.
    let ids: Vec<SourceId> = (0..=SourceId::MAX).take(layers.len()).rev().collect();
    let says = |id: &&SourceId| matches!(layers[usize::from(**id)].root.what, What::Node(_));
    let root_id = ids.iter().find(says).or(ids.first()).copied().unwrap_or_default();
    let root = layers
        .get_mut(usize::from(root_id))
        .map(|layer| std::mem::replace(&mut layer.root, Found::implied(Box::default())));
    let mut assembly = Assembly {
        options,
        tree: Tree { sources, nodes: Vec::new(), entries: Vec::new(), names: Names::default() },
        layers: layers.into_iter().map(|layer| layer.listings).collect(),
        sets: Sets::default(),
        links: HashMap::new(),
        xattrs_left_out: 0,
    };
    assembly.add(root_id, root.unwrap_or_else(|| Found::implied(Box::default())), 0)?;
    // Directories whose listings are to be placed, the next one last.
    let mut waiting = vec![(ROOT, ids.into_iter().map(|id| (id, TOP)).collect())];
    let mut given_back = 0;
    while let Some((dir, from)) = waiting.pop() {
        let subdirectories = assembly.place(dir, from)?;
        // What the sources said of it is free now, but other threads' in the eyes of the allocator.
        if assembly.tree.entries.len() - given_back >= GIVE_BACK {
            given_back = assembly.tree.entries.len();
            erofs_sys::heap::give_back();
        }
        waiting.extend(subdirectories.into_iter().rev());
    }
    let Assembly { tree, sets, xattrs_left_out, .. } = assembly;
    Ok(Assembled { tree, sets, excluded, xattrs_left_out })
}

/// The listings of one directory, newest first.
type From = Vec<(SourceId, ListingId)>;

/// An entry with where it is from.
struct Candidate {
    source: SourceId,
    found: Found,
    listing: Option<ListingId>,
}

struct Assembly<'a> {
    options: &'a BuildOptions,
    tree: Tree,
    /// The listings of every source that are not placed yet.
    layers: Vec<HashMap<ListingId, Listing>>,
    sets: Sets,
    /// Files with several names, by source and identity there.
    links: HashMap<(SourceId, (u64, u64)), NodeId>,
    xattrs_left_out: u64,
}

impl Assembly<'_> {
    /// Makes the entries of `dir`; returns its subdirectories with their listings.
    fn place(&mut self, dir: NodeId, from: From) -> Result<Vec<(NodeId, From)>> {
        let first = self.count("directory entries", self.tree.entries.len())?;
        let mut subdirectories = Vec::new();
        let mut has_whiteouts = false;
        let mut candidates = self.candidates(from).into_iter().peekable();
        while let Some(newest) = candidates.next() {
            self.check_name(dir, &newest)?;
            let mut below = Vec::new();
            while let Some(next) = candidates.next_if(|next| next.found.name == newest.found.name) {
                if next.source == below.last().unwrap_or(&newest).source {
                    return Err(Error::Duplicate { path: self.path_of(dir, &next) });
                }
                below.push(next);
            }
            let is_whiteout = matches!(newest.found.what, What::Whiteout);
            let Some((winner, listings)) = self.merge(dir, newest, below)? else { continue };
            has_whiteouts |= is_whiteout;
            let is_dir = winner.found.what.is_dir();
            let node = self.enter(dir, winner)?;
            if is_dir {
                self.tree.nodes[dir as usize].nlink += 1;
                subdirectories.push((node, listings));
            }
        }
        let count = self.count("directory entries", self.tree.entries.len())? - first;
        let node = &mut self.tree.nodes[dir as usize];
        node.kind = Kind::Directory { first, count };
        if has_whiteouts {
            node.xattrs = self.sets.extend(node.xattrs, Whiteouts::origin());
        }
        Ok(subdirectories)
    }

    /// All entries of a directory, sorted by name and then newest first.
    fn candidates(&mut self, from: From) -> Vec<Candidate> {
        let is_one = from.len() == 1;
        let mut candidates = Vec::new();
        for (source, listing) in from {
            let layer = self.layers.get_mut(usize::from(source));
            let listing = layer.and_then(|listings| listings.remove(&listing)).unwrap_or_default();
            let entries = listing.entries.into_iter();
            candidates.extend(entries.map(|(found, listing)| Candidate { source, found, listing }));
            if listing.is_opaque {
                break;
            }
        }
        if !is_one {
            candidates.sort_by(|a, b| a.found.name.cmp(&b.found.name));
        }
        candidates
    }

    /// What becomes of the entries that have one name, the newest first, and the listings of a directory.
    fn merge(
        &self,
        dir: NodeId,
        mut newest: Candidate,
        below: Vec<Candidate>,
    ) -> Result<Option<(Candidate, From)>> {
        let whiteouts = self.options.whiteouts;
        if matches!(newest.found.what, What::Whiteout) {
            let kept = whiteouts.kept(newest.found);
            return Ok(kept.map(|found| (Candidate { found, ..newest }, Vec::new())));
        }
        if !newest.found.what.is_dir() {
            return Ok(Some((newest, Vec::new())));
        }
        let listing = |candidate: &Candidate| candidate.listing.map(|listing| (candidate.source, listing));
        let is_opaque = |(source, listing): (SourceId, ListingId)| {
            let layer = self.layers.get(usize::from(source));
            layer.and_then(|listings| listings.get(&listing)).is_some_and(|listing| listing.is_opaque)
        };
        let mut hides = listing(&newest).is_some_and(is_opaque);
        let mut listings: From = listing(&newest).into_iter().collect();
        for older in below {
            hides |= matches!(older.found.what, What::Whiteout);
            if hides {
                break;
            }
            let is_implied = matches!(newest.found.what, What::Implied);
            if !older.found.what.is_dir() {
                if is_implied {
                    return Err(Error::NotADirectory {
                        path: self.path_of(dir, &older),
                        over: self.path_of(dir, &newest),
                    });
                }
                break;
            }
            hides = listing(&older).is_some_and(is_opaque);
            listings.extend(listing(&older));
            if is_implied {
                newest = older;
            }
        }
        if hides {
            newest.found.xattrs = whiteouts.opaque(newest.found.xattrs);
        }
        Ok(Some((newest, listings)))
    }

    /// Makes an entry, and the node unless another entry of the same file made it.
    fn enter(&mut self, dir: NodeId, candidate: Candidate) -> Result<NodeId> {
        let Candidate { source, found, .. } = candidate;
        let entry = self.count("directory entries", self.tree.entries.len())?;
        let next = self.count("inodes", self.tree.nodes.len())?;
        let node = match found.identity {
            Some(identity) if !found.what.is_dir() => *self.links.entry((source, identity)).or_insert(next),
            _ => next,
        };
        // The entry comes first so that the node has a path while it is made.
        let name = self.tree.names.add(&found.name);
        self.tree.entries.push(Entry { dir, node, name });
        if node == next {
            self.add(source, found, entry)?;
        } else {
            self.tree.nodes[node as usize].nlink += 1;
        }
        Ok(node)
    }

    fn add(&mut self, source: SourceId, found: Found, entry: u32) -> Result<()> {
        let Found { what, mode, uid, gid, mtime, xattrs, xattrs_left_out, .. } = found;
        let kind = match what {
            What::Node(kind) => kind,
            What::Implied | What::Whiteout => Kind::Directory { first: 0, count: 0 },
        };
        let options = self.options;
        let path = LazyPath { tree: &self.tree, source, entry, root: self.tree.nodes.is_empty() };
        let xattrs = moved_acls(options, xattrs, &path)?;
        let is_dir = matches!(kind, Kind::Directory { .. });
        let owner = |kind, id| {
            let owners = &options.owners;
            owners.owner(kind, id, Path::new("")).or_else(|_| owners.owner(kind, id, &path.get()))
        };
        let node = Node {
            entry,
            uid: owner(Id::User, uid)?,
            gid: owner(Id::Group, gid)?,
            nlink: if is_dir { 2 } else { 1 },
            mtime: options.times.of_file(mtime),
            permissions: u16::try_from(mode & 0o7777).unwrap_or(0),
            source,
            xattrs: self.sets.add(&xattrs),
            kind,
        };
        self.xattrs_left_out += xattrs_left_out;
        self.tree.nodes.push(node);
        Ok(())
    }

    fn check_name(&self, dir: NodeId, candidate: &Candidate) -> Result<()> {
        let name = &*candidate.found.name;
        let bad = |reason| Err(Error::Name { path: self.path_of(dir, candidate), reason });
        if name.is_empty() {
            return bad("it is empty");
        }
        if name == b"." || name == b".." {
            return bad("it is reserved");
        }
        if name.contains(&b'/') || name.contains(&0) {
            return bad("it contains a slash or a NUL byte");
        }
        if name.len() > NAME_LEN {
            return bad("it is longer than 255 bytes");
        }
        Ok(())
    }

    fn path_of(&self, dir: NodeId, candidate: &Candidate) -> PathBuf {
        self.tree.path_in(candidate.source, dir).join(OsStr::from_bytes(&candidate.found.name))
    }

    fn count(&self, what: &'static str, count: usize) -> Result<u32> {
        u32::try_from(count).map_err(|_| Error::TooLarge {
            path: self.tree.path(),
            what,
            found: count as u64,
            limit: u32::MAX.into(),
        })
    }
}

/// The path of a node that is being made, worked out only for a message.
struct LazyPath<'a> {
    tree: &'a Tree,
    source: SourceId,
    entry: u32,
    root: bool,
}

impl LazyPath<'_> {
    fn get(&self) -> PathBuf {
        if self.root {
            return self.tree.sources.get(usize::from(self.source)).cloned().unwrap_or_default();
        }
        let entry = &self.tree.entries[self.entry as usize];
        self.tree.path_in(self.source, entry.dir).join(OsStr::from_bytes(self.tree.name(entry)))
    }
}

fn moved_acls(options: &BuildOptions, xattrs: Xattrs, path: &LazyPath<'_>) -> Result<Xattrs> {
    let is_acl = |name: &[u8]| name.starts_with(b"system.posix_acl_");
    if !options.owners.moves_ids() || !xattrs.iter().any(|xattr| is_acl(&xattr.name)) {
        return Ok(xattrs);
    }
    let mut moved = xattrs.to_vec();
    for xattr in moved.iter_mut().filter(|xattr| is_acl(&xattr.name)) {
        options.owners.move_acl(&mut xattr.value, &path.get())?;
    }
    Ok(Arc::from(moved))
}
