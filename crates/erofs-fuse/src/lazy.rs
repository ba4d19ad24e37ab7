//! `LazyFs`: the data-only layer between an overlay's `objects` and its `fresh`.
//!
//! Overlayfs comes here with `/.v/KEY/NID` for a file that has no verified object yet. The LOOKUP of NID has the keeper read, hash and
//! publish the file's bytes under that very name in `fresh`, and then answers *no such entry*, so that overlayfs goes on to `fresh` and
//! opens the object itself. What can't be had that way is a file of this layer:
//!
//! | the object | answer to LOOKUP | then |
//! | --- | --- | --- |
//! | is there, or was made in time | no such entry, valid for no time | overlayfs reads the object |
//! | is not there yet, or can't be made | a file | its bytes are read from the image, unshared |
//! | can't be: the claimed fingerprint is false | a file | its OPEN is EUCLEAN (an error of LOOKUP would make overlayfs pass on to the next layer) |

use std::sync::Arc;
use std::time::Duration;

use erofs_image::Inode;
use fuse_dev::{Attr, Entry, FOREVER, Filesystem, OpenFlags, Reply, Request};
use rustix::io::Errno;

use crate::control::Owners;
use crate::sharing::{Made, Sharing, Wants};
use crate::tree::Tree;

const ROOT: u64 = 1;
const UNVERIFIED: u64 = 2;
const OF_IMAGE: u64 = 3;

/// A file's node id is its nid and this.
const FILES: u64 = 4;

const MODE_DIRECTORY: u32 = 0o040_555;
const MODE_FILE: u32 = 0o100_444;

/// The lazy layer of one mount.
#[derive(Debug)]
pub(crate) struct LazyFs {
    tree: Tree,
    sharing: Arc<Sharing>,
    /// The one directory in `.v`.
    key: String,
    owner: Owners,
}

impl LazyFs {
    pub(crate) fn new(tree: Tree, sharing: Arc<Sharing>, owners: Option<Owners>) -> Self {
        let key = sharing.key().to_hex();
        Self { tree, sharing, key, owner: owners.unwrap_or(Owners { uid: 0, gid: 0 }) }
    }

    fn directory(&self, node: u64) -> Attr {
        Attr {
            ino: node,
            mode: MODE_DIRECTORY,
            nlink: 2,
            uid: self.owner.uid,
            gid: self.owner.gid,
            blksize: 4096,
            ..Attr::default()
        }
    }

    fn file(&self, inode: &Inode, node: u64) -> Attr {
        Attr {
            ino: node,
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            mode: MODE_FILE,
            nlink: 1,
            uid: self.owner.uid,
            gid: self.owner.gid,
            blksize: 4096,
            ..Attr::default()
        }
    }

    /// The file that a name or node id stands for; empty ones have no redirect and so none here.
    fn inode(&self, nid: u64) -> Option<Inode> {
        let inode = self.tree.told(self.tree.image.inode(nid)).ok()?;
        (inode.is_file() && inode.size > 0).then_some(inode)
    }

    fn find(&self, request: &Request, name: &[u8], reply: Reply) {
        let Some((inode, node)) =
            parse(name).and_then(|nid| Some((self.inode(nid)?, nid.checked_add(FILES)?)))
        else {
            return reply.negative(Duration::ZERO);
        };
        let attr = self.file(&inode, node);
        self.sharing.make(request, &inode, Wants::Link, move |made| {
            match made {
                Made::Object(_) => reply.negative(Duration::ZERO),
                // For ever, since overlayfs keeps the file that it found: if its name went away when the object comes, whoever has
                // it open would get ESTALE. Once the object is there the metadata layer doesn't redirect here any more.
                Made::Refused | Made::Unshared | Made::NotYet => reply.entry(&Entry::forever(node, attr)),
            }
        });
    }

    fn opened(&self, request: &Request) -> Result<Inode, Errno> {
        let nid = request.nodeid.checked_sub(FILES).ok_or(Errno::ISDIR)?;
        self.inode(nid).ok_or(Errno::UCLEAN)
    }
}

/// A nid as the metadata layer writes it: decimal digits, no zero in front.
fn parse(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let nid = text.parse::<u64>().ok()?;
    (nid.to_string() == text).then_some(nid)
}

impl Filesystem for LazyFs {
    fn lookup(&self, request: &Request, name: &[u8], reply: Reply) {
        match (request.nodeid, name) {
            (ROOT, b".v") => reply.entry(&Entry::forever(UNVERIFIED, self.directory(UNVERIFIED))),
            (UNVERIFIED, key) if key == self.key.as_bytes() => {
                reply.entry(&Entry::forever(OF_IMAGE, self.directory(OF_IMAGE)));
            }
            (OF_IMAGE, name) => self.find(request, name, reply),
            // Objects never have names here, so this needs to be asked once only.
            _ => reply.negative(FOREVER),
        }
    }

    fn getattr(&self, request: &Request, reply: Reply) {
        match request.nodeid.checked_sub(FILES) {
            None => reply.attr(&self.directory(request.nodeid), FOREVER),
            Some(nid) => match self.inode(nid) {
                Some(inode) => reply.attr(&self.file(&inode, request.nodeid), FOREVER),
                None => reply.error(Errno::UCLEAN),
            },
        }
    }

    fn open(&self, request: &Request, _flags: u32, reply: Reply) {
        match self.opened(request) {
            Ok(inode) if self.sharing.is_refused(inode.nid) => reply.error(Errno::UCLEAN),
            Ok(_) => reply.open(0, OpenFlags::KEEP_CACHE | OpenFlags::NOFLUSH),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        match self.opened(request) {
            Ok(inode) => self.tree.read_inode(&inode, offset, size, reply),
            Err(errno) => reply.error(errno),
        }
    }

    /// Overlayfs mounts no layer that can't say how much room it has.
    fn statfs(&self, _request: &Request, reply: Reply) {
        self.tree.statfs(reply);
    }

    fn interrupt(&self, unique: u64) -> bool {
        self.sharing.interrupt(unique)
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_one_spelling_of_a_nid_is_a_name() {
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"18446744073709551615"), Some(u64::MAX));
        for name in
            [&b""[..], b"00", b"07", b"+7", b"-1", b" 7", b"7 ", b"0x7", b"18446744073709551616", b"\xff"]
        {
            assert_eq!(parse(name), None);
        }
    }
}
