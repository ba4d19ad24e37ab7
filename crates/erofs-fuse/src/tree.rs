//! What all filesystems over an image have in common: names, attributes, links, directories, extended attributes.
//!
//! Every answer is computed from the image and is right for ever. An error about the image's content is EUCLEAN for the caller and a
//! line in the log.

use std::ops::ControlFlow;
use std::sync::Arc;

use erofs_image::{FileType, Image, Inode};
use fuse_dev::{DirPlusBuffer, Entry, FOREVER, Reply, Request, Statfs, dirent_type};
use rustix::io::Errno;

use crate::attr::{Shown, attr};
use crate::control::Owners;
use crate::log::Log;
use crate::node::{nid_of_node, node_of_nid, shown_number};
use crate::xattr::{absent_means_unsupported, escaped};

/// The longest name in a directory.
const NAME_MAX: u32 = 255;

/// An image as a FUSE filesystem shows it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) image: Arc<Image>,
    pub(crate) log: Arc<Log>,
    owners: Option<Owners>,
    shown: Shown,
    root_nid: u64,
}

impl Tree {
    pub(crate) fn new(image: Arc<Image>, log: Arc<Log>, owners: Option<Owners>, shown: Shown) -> Self {
        let root_nid = image.root_nid();
        Self { image, log, owners, shown, root_nid }
    }

    /// The inode behind a node id.
    pub(crate) fn inode(&self, node: u64) -> Result<Inode, Errno> {
        let nid = nid_of_node(node, self.root_nid).ok_or(Errno::STALE)?;
        self.told(self.image.inode(nid))
    }

    /// What the reader says, with an error logged and made a number.
    pub(crate) fn told<T>(&self, result: erofs_image::Result<T>) -> Result<T, Errno> {
        result.map_err(|error| {
            let errno = error.errno();
            // A name that is not there, or a file used as a directory, is the caller's affair.
            if errno != Errno::NOENT.raw_os_error() && errno != Errno::NOTDIR.raw_os_error() {
                self.log.line(&error);
            }
            if (1..4096).contains(&errno) { Errno::from_raw_os_error(errno) } else { Errno::IO }
        })
    }

    fn entry(&self, inode: &Inode) -> Option<Entry> {
        let attr = attr(inode, self.image.block_size(), self.owners, self.shown);
        node_of_nid(inode.nid, self.root_nid).map(|node| Entry::forever(node, attr))
    }

    pub(crate) fn lookup(&self, request: &Request, name: &[u8], reply: Reply) {
        let found = self.inode(request.nodeid).and_then(|directory| {
            let Some(dirent) = self.told(self.image.lookup(&directory, name))? else { return Ok(None) };
            let inode = self.told(self.image.inode(dirent.nid))?;
            self.entry(&inode).ok_or(Errno::UCLEAN).map(Some)
        });
        match found {
            Ok(Some(entry)) => reply.entry(&entry),
            Ok(None) => reply.negative(FOREVER),
            Err(errno) => reply.error(errno),
        }
    }

    pub(crate) fn getattr(&self, request: &Request, reply: Reply) {
        match self.inode(request.nodeid) {
            Ok(inode) => {
                reply.attr(&attr(&inode, self.image.block_size(), self.owners, self.shown), FOREVER);
            }
            Err(errno) => reply.error(errno),
        }
    }

    pub(crate) fn readlink(&self, request: &Request, reply: Reply) {
        match self.inode(request.nodeid).and_then(|inode| self.told(self.image.read_link(&inode))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    /// Entries with their attributes, straight from the directory's blocks; offsets are byte positions, so any of them can be resumed
    /// at. An entry whose inode can't be read is listed bare, and only using it fails.
    pub(crate) fn readdirplus(&self, request: &Request, offset: u64, size: u32, reply: Reply) {
        let listed = self.inode(request.nodeid).and_then(|directory| {
            let mut buffer = DirPlusBuffer::new(size);
            self.told(self.image.read_dir(&directory, offset, &mut |entry| {
                let inode = match entry.name {
                    // The kernel knows these two already and would count a look-up of them.
                    b"." | b".." => None,
                    _ => self.told(self.image.inode(entry.nid)).ok(),
                };
                let fits = if let Some(known) = inode.and_then(|inode| self.entry(&inode)) {
                    buffer.push(&known, entry.next, entry.name)
                } else {
                    let kind = entry.file_type.map_or(0, kind);
                    let number = shown_number(self.image.number(entry.nid));
                    buffer.push_name(number, entry.next, kind, entry.name)
                };
                if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            }))?;
            Ok(buffer)
        });
        match listed {
            Ok(buffer) => reply.data(buffer.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    /// An attribute by the name that it has in the image.
    pub(crate) fn getxattr(&self, request: &Request, name: &[u8], size: u32, reply: Reply) {
        let value = self.inode(request.nodeid).and_then(|inode| self.told(self.image.xattr(&inode, name)));
        match value {
            Ok(Some(value)) => reply.xattr(size, &value),
            Ok(None) if absent_means_unsupported(name) => reply.error(Errno::OPNOTSUPP),
            Ok(None) => reply.error(Errno::NODATA),
            Err(errno) => reply.error(errno),
        }
    }

    /// The names of all attributes.
    pub(crate) fn listxattr(&self, request: &Request, size: u32, reply: Reply) {
        match self.inode(request.nodeid).and_then(|inode| self.told(self.image.xattrs(&inode))) {
            Ok(xattrs) => {
                let mut names = Vec::new();
                for xattr in &xattrs {
                    match self.shown {
                        Shown::Plain => names.extend_from_slice(&xattr.name),
                        Shown::UnderOverlay => names.extend_from_slice(&escaped(&xattr.name)),
                    }
                    names.push(0);
                }
                reply.xattr(size, &names);
            }
            Err(errno) => reply.error(errno),
        }
    }

    pub(crate) fn statfs(&self, reply: Reply) {
        let superblock = self.image.superblock();
        let block_size = self.image.block_size();
        reply.statfs(&Statfs {
            blocks: self.image.block_count(),
            bfree: 0,
            bavail: 0,
            files: superblock.inos,
            ffree: 0,
            bsize: block_size,
            namelen: NAME_MAX,
            frsize: block_size,
        });
    }
}

/// The `DT_*` value of a file type.
fn kind(file_type: FileType) -> u8 {
    dirent_type(u32::from(file_type.mode_bits()))
}
