//! Looking up many paths: who asks for the files of a directory one after the other finds the directory once.

use erofs_image::{Error, Image, Inode};

/// Which file is asked for.
#[derive(Debug)]
pub(crate) enum Place {
    /// A path from the root.
    Path(Box<[u8]>),
    /// An inode that was looked up before, at this path.
    Nid(u64, Box<[u8]>),
    /// An inode that was read before and is no symbolic link.
    Inode(Inode),
}

/// Looks paths up and remembers the last directory.
#[derive(Debug)]
pub(crate) struct Finder {
    /// Path of a directory, and what it leads to. An image never changes, so this stays right.
    last: Option<(Box<[u8]>, Inode)>,
}

impl Finder {
    /// Has found nothing yet.
    pub(crate) fn new() -> Self {
        Self { last: None }
    }

    /// The regular file that `place` leads to.
    pub(crate) fn find(&mut self, image: &Image, place: &Place) -> Result<Inode, Error> {
        let inode = match place {
            Place::Inode(inode) => *inode,
            Place::Nid(nid, path) => follow(image, image.inode(*nid)?, path)?,
            Place::Path(path) => self.resolve(image, path)?,
        };
        if inode.is_dir() {
            return Err(Error::IsADirectory { nid: inode.nid });
        }
        if !inode.is_file() {
            return Err(Error::WrongType { nid: inode.nid });
        }
        Ok(inode)
    }

    fn resolve(&mut self, image: &Image, path: &[u8]) -> Result<Inode, Error> {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(start);
        if matches!(name, b"" | b"." | b"..") {
            return image.resolve(path, true);
        }
        let dir = match &self.last {
            Some((known, dir)) if **known == *parent => *dir,
            _ => {
                let dir = image.resolve(parent, true)?;
                self.last = Some((parent.into(), dir));
                dir
            }
        };
        let entry = image.lookup(&dir, name)?.ok_or(Error::NotFound)?;
        follow(image, image.inode(entry.nid)?, path)
    }
}

/// The inode at `path`, or what it leads to if it is a symbolic link.
fn follow(image: &Image, inode: Inode, path: &[u8]) -> Result<Inode, Error> {
    if inode.is_symlink() { image.resolve(path, true) } else { Ok(inode) }
}
