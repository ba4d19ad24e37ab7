//! `MetaFs`: the metadata layer of an overlay.
//!
//! To overlayfs every non-empty regular file here is a shadow: `user.overlay.metacopy` says that its bytes are elsewhere, and
//! `user.overlay.redirect` where. Where a verified fact stands that is the object, `/ab/cdef...`. Otherwise it is `/.v/KEY/NID`, a name
//! that no directory of objects holds, so that overlayfs comes to the lazy layer, which has the bytes hashed first. A path made of a
//! digest that the image merely claims would open another image's object unasked. These answers are made here and never read from the
//! image (see [`crate::xattr`]).

use std::sync::Arc;

use erofs_image::Inode;
use fuse_dev::{Filesystem, Reply, Request};
use rustix::io::Errno;

use crate::sharing::Sharing;
use crate::tree::Tree;
use crate::xattr::{Asked, METACOPY, REDIRECT, asked};

/// The lower layer that an overlay takes names and attributes from.
#[derive(Debug)]
pub(crate) struct MetaFs {
    tree: Tree,
    sharing: Arc<Sharing>,
    /// `/.v/KEY/`.
    unverified: String,
}

impl MetaFs {
    pub(crate) fn new(tree: Tree, sharing: Arc<Sharing>) -> Self {
        let unverified = format!("/.v/{}/", sharing.key());
        Self { tree, sharing, unverified }
    }

    /// What overlayfs is told about one of its own attributes.
    fn order(&self, inode: &Inode, name: &[u8], size: u32, reply: Reply) {
        if !inode.is_file() || inode.size == 0 {
            return reply.error(Errno::NODATA);
        }
        match name {
            METACOPY => reply.xattr(size, b""),
            REDIRECT => match self.sharing.object(inode.nid) {
                Some(digest) => reply.xattr(size, format!("/{}", digest.object_path()).as_bytes()),
                None => reply.xattr(size, format!("{}{}", self.unverified, inode.nid).as_bytes()),
            },
            _ => reply.error(Errno::NODATA),
        }
    }
}

impl Filesystem for MetaFs {
    fn lookup(&self, request: &Request, name: &[u8], reply: Reply) {
        self.tree.lookup(request, name, reply);
    }

    fn getattr(&self, request: &Request, reply: Reply) {
        self.tree.getattr(request, reply);
    }

    fn readlink(&self, request: &Request, reply: Reply) {
        self.tree.readlink(request, reply);
    }

    fn readdirplus(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        self.tree.readdirplus(request, offset, size, reply);
    }

    fn getxattr(&self, request: &Request, name: &[u8], size: u32, reply: Reply) {
        match asked(name) {
            Asked::OfImage(name) => self.tree.getxattr(request, &name, size, reply),
            Asked::Order => match self.tree.inode(request.nodeid) {
                Ok(inode) => self.order(&inode, name, size, reply),
                Err(errno) => reply.error(errno),
            },
        }
    }

    fn listxattr(&self, request: &Request, size: u32, reply: Reply) {
        self.tree.listxattr(request, size, reply);
    }

    fn statfs(&self, _request: &Request, reply: Reply) {
        self.tree.statfs(reply);
    }
}
