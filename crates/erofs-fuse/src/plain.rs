//! `PlainFs`: names, attributes and bytes, all from the image, all cached by the kernel for ever.
//!
//! OPEN, OPENDIR, FLUSH and ACCESS are answered ENOSYS (the trait's default), so that opening a file costs no message after the first.

use fuse_dev::{Filesystem, Reply, Request};

use crate::tree::Tree;

/// The `fuse` back end.
#[derive(Debug)]
pub(crate) struct PlainFs {
    tree: Tree,
}

impl PlainFs {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree }
    }
}

impl Filesystem for PlainFs {
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
        self.tree.getxattr(request, name, size, reply);
    }

    fn listxattr(&self, request: &Request, size: u32, reply: Reply) {
        self.tree.listxattr(request, size, reply);
    }

    fn statfs(&self, _request: &Request, reply: Reply) {
        self.tree.statfs(reply);
    }

    fn read(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        self.tree.read(request, offset, size, reply);
    }

    fn lseek(&self, request: &Request, _fh: u64, offset: u64, whence: u32, reply: Reply) {
        self.tree.lseek(request, offset, whence, reply);
    }
}
