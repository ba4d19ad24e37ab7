//! Paths and symbolic links. Nothing leads out of the image: a link's "/" is the image's root.

use crate::error::{Corruption, Error, Result, Where};
use crate::image::Image;
use crate::inode::Inode;

impl Image {
    /// The target of a symbolic link.
    pub fn read_link(&self, link: &Inode) -> Result<Vec<u8>> {
        if !link.is_symlink() {
            return Err(Error::WrongType { nid: link.nid });
        }
        let place = Where::nid(link.nid);
        let limit = self.limits().symlink_length;
        if link.size > limit {
            return Err(Error::Limit { place, name: "symlink_length", value: link.size, limit });
        }
        let mut target = vec![0; usize::try_from(link.size).unwrap_or_default()];
        let count = self.read_data(link, 0, &mut target).map_err(|error| error.of_inode(link.nid))?;
        target.truncate(count);
        if target.is_empty() || target.contains(&0) {
            return Err(Error::corrupt(place, Corruption::SymlinkTarget));
        }
        Ok(target)
    }

    /// The inode that `path` leads to from the root; a slash at its start changes nothing.
    /// Symbolic links on the way are followed, one at the end only if `follow` says so (or a slash
    /// behind it).
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<Inode> {
        let mut here = vec![self.inode(self.root_nid())?];
        let mut todo = Vec::new();
        push_path(&mut todo, path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            let dir = match here.last() {
                Some(dir) if dir.is_dir() => *dir,
                Some(other) => return Err(Error::NotADirectory { nid: other.nid }),
                None => return Err(Error::NotFound),
            };
            match name.as_slice() {
                b"." => continue,
                // The way we came, not the entry "..", which may say anything.
                b".." => {
                    if here.len() > 1 {
                        here.pop();
                    }
                    continue;
                }
                _ => (),
            }
            let entry = self.lookup(&dir, &name)?.ok_or(Error::NotFound)?;
            let inode = self.inode(entry.nid)?;
            if !inode.is_symlink() || (todo.is_empty() && !follow) {
                here.push(inode);
                continue;
            }
            links += 1;
            if links > self.limits().symlinks {
                return Err(Error::TooManySymlinks);
            }
            let target = self.read_link(&inode)?;
            if target.starts_with(b"/") {
                here.truncate(1);
            }
            push_path(&mut todo, &target);
        }
        here.pop().ok_or(Error::NotFound)
    }
}

/// Puts the parts of `path` on top of `todo`, the first part last. A slash at the end is a part
/// ".", which only a directory has.
fn push_path(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        todo.push(b".".to_vec());
    }
    let parts = path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty());
    todo.extend(parts.map(<[u8]>::to_vec));
}
