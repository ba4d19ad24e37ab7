//! Puts listings together: numbers nodes, joins hard links, applies owners and times.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_format::dirent::NAME_LEN;

use super::entry::{Found, mtime};
use super::{Listing, Scanned};
use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::owners::Id;
use crate::source::DirSource;
use crate::tree::{Entry, Kind, Node, NodeId, ROOT, Tree};
use crate::xattr::{Sets, Xattrs};

pub(super) fn assemble(
    options: &BuildOptions,
    source: &DirSource,
    root: Found,
    mut listings: HashMap<u32, Listing>,
    excluded: u64,
) -> Result<Scanned> {
    let mut assembly = Assembly {
        options,
        tree: Tree { path: source.path.clone(), nodes: Vec::new(), entries: Vec::new() },
        sets: Sets::default(),
        links: HashMap::new(),
        xattrs_left_out: 0,
    };
    assembly.add(root, 0)?;
    // Directories whose listing is to be placed, the next one last.
    let mut waiting = vec![(0, ROOT)];
    while let Some((listing, dir)) = waiting.pop() {
        let Listing { entries } = listings.remove(&listing).unwrap_or_default();
        let subdirectories = assembly.place(dir, entries)?;
        waiting.extend(subdirectories.into_iter().rev());
    }
    let Assembly { tree, sets, xattrs_left_out, .. } = assembly;
    Ok(Scanned { tree, sets, excluded, xattrs_left_out })
}

struct Assembly<'a> {
    options: &'a BuildOptions,
    tree: Tree,
    sets: Sets,
    /// Files with several names, by device and inode number.
    links: HashMap<(u64, u64), NodeId>,
    xattrs_left_out: u64,
}

impl Assembly<'_> {
    /// Makes the entries of `dir`; returns its subdirectories with their listings.
    fn place(&mut self, dir: NodeId, entries: Vec<(Found, Option<u32>)>) -> Result<Vec<(u32, NodeId)>> {
        let first = self.count("directory entries", self.tree.entries.len())?;
        let mut subdirectories = Vec::new();
        for (found, listing) in entries {
            let entry = self.count("directory entries", self.tree.entries.len())?;
            let name = found.name.clone();
            self.check_name(dir, first, &name)?;
            let identity = (found.stat.st_dev, found.stat.st_ino);
            let linked = found.stat.st_nlink > 1 && listing.is_none();
            let next = self.count("inodes", self.tree.nodes.len())?;
            let node = if linked { *self.links.entry(identity).or_insert(next) } else { next };
            // The entry comes first so that the node has a path while it is made.
            self.tree.entries.push(Entry { dir, node, name });
            if node == next {
                self.add(found, entry)?;
            } else {
                self.tree.nodes[node as usize].nlink += 1;
            }
            if let Some(listing) = listing {
                self.tree.nodes[dir as usize].nlink += 1;
                subdirectories.push((listing, node));
            }
        }
        let count = self.count("directory entries", self.tree.entries.len())? - first;
        self.tree.nodes[dir as usize].kind = Kind::Directory { first, count };
        Ok(subdirectories)
    }

    fn add(&mut self, found: Found, entry: u32) -> Result<()> {
        let Found { stat, kind, xattrs, xattrs_left_out, name: _ } = found;
        let options = self.options;
        let path = LazyPath { tree: &self.tree, entry, root: self.tree.nodes.is_empty() };
        let xattrs = moved_acls(options, xattrs, &path)?;
        let is_dir = matches!(kind, Kind::Directory { .. });
        let owner = |kind, id| {
            let owners = &options.owners;
            owners.owner(kind, id, Path::new("")).or_else(|_| owners.owner(kind, id, &path.get()))
        };
        let (uid, gid) = (owner(Id::User, stat.st_uid)?, owner(Id::Group, stat.st_gid)?);
        let node = Node {
            entry,
            uid,
            gid,
            nlink: if is_dir { 2 } else { 1 },
            mtime: options.times.of_file(mtime(&stat)),
            permissions: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
            xattrs: self.sets.add(&xattrs),
            kind,
        };
        self.xattrs_left_out += xattrs_left_out;
        self.tree.nodes.push(node);
        Ok(())
    }

    /// Names come sorted, so a second one of the same name is next to the first.
    fn check_name(&self, dir: NodeId, first: u32, name: &[u8]) -> Result<()> {
        let path = || {
            use std::os::unix::ffi::OsStrExt;
            self.tree.path_of(dir).join(std::ffi::OsStr::from_bytes(name))
        };
        let bad = |reason| Err(Error::Name { path: path(), reason });
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
        let siblings = &self.tree.entries[first as usize..];
        if siblings.last().is_some_and(|last| *last.name == *name) {
            return Err(Error::Duplicate { path: path() });
        }
        Ok(())
    }

    fn count(&self, what: &'static str, count: usize) -> Result<u32> {
        u32::try_from(count).map_err(|_| Error::TooLarge {
            path: self.tree.path.clone(),
            what,
            found: count as u64,
            limit: u32::MAX.into(),
        })
    }
}

/// The path of a node that is being made, worked out only for a message.
struct LazyPath<'a> {
    tree: &'a Tree,
    entry: u32,
    root: bool,
}

impl LazyPath<'_> {
    fn get(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if self.root {
            return self.tree.path.clone();
        }
        let entry = &self.tree.entries[self.entry as usize];
        self.tree.path_of(entry.dir).join(std::ffi::OsStr::from_bytes(&entry.name))
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
