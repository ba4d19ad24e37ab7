//! `PassthroughFs`: the `fuse` back end of real root in a domain. The kernel reads files from the domain's objects itself.
//!
//! While an inode is open, all its opens have the same mode and, in passthrough, the same backing id, as the kernel demands; so the mode
//! is chosen at the first open and kept until the last is closed. Backing ids are one to an object, shared by all inodes that are that
//! object, and given back when none of them is open.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use erofs_store::Digest;
use fuse_dev::{Backing, Filesystem, OpenFlags, Reply, Request};
use rustix::io::Errno;

use crate::sharing::{Made, Sharing, Wants};
use crate::tree::Tree;

/// Files whose bytes the kernel takes from objects.
#[derive(Debug)]
pub(crate) struct PassthroughFs {
    tree: Tree,
    sharing: Arc<Sharing>,
    state: Mutex<State>,
    myself: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    /// Open inodes by nid.
    open: HashMap<u64, Open>,
    /// Objects that are registered with the connection; each lives as long as an open inode holds it.
    backing: HashMap<Digest, Weak<Backing>>,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    opens: u64,
}

#[derive(Clone, Debug)]
enum Mode {
    /// The kernel reads this object.
    Passthrough(Digest, Arc<Backing>),
    /// The kernel caches what READ answers.
    Cached,
}

impl PassthroughFs {
    pub(crate) fn new(tree: Tree, sharing: Arc<Sharing>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self { tree, sharing, state: Mutex::default(), myself: myself.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an inode in the mode that it has, or in the one that `made` allows.
    fn opened(&self, nid: u64, made: Made, reply: Reply) {
        if made == Made::Refused {
            return reply.error(Errno::UCLEAN);
        }
        let mut state = self.lock();
        let State { open, backing } = &mut *state;
        let open = match open.entry(nid) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(Open { mode: self.choose(backing, made, &reply), opens: 0 }),
        };
        open.opens += 1;
        let mode = open.mode.clone();
        drop(state);
        match mode {
            Mode::Passthrough(_, backing) => reply.open_passthrough(0, OpenFlags::NOFLUSH, &backing),
            Mode::Cached => reply.open(0, OpenFlags::KEEP_CACHE | OpenFlags::NOFLUSH),
        }
    }

    fn choose(&self, known: &mut HashMap<Digest, Weak<Backing>>, made: Made, reply: &Reply) -> Mode {
        let Made::Object(digest) = made else { return Mode::Cached };
        if let Some(backing) = known.get(&digest).and_then(Weak::upgrade) {
            return Mode::Passthrough(digest, backing);
        }
        let Some(backing) = self.register(&digest, reply) else { return Mode::Cached };
        let backing = Arc::new(backing);
        known.insert(digest, Arc::downgrade(&backing));
        Mode::Passthrough(digest, backing)
    }

    fn register(&self, digest: &Digest, reply: &Reply) -> Option<Backing> {
        let object = self.sharing.open(digest)?;
        reply
            .backing(&object)
            .inspect_err(|errno| {
                self.tree.log.line(format_args!(
                    "object {digest} can't be passed through ({errno}); its files are served unshared"
                ));
            })
            .ok()
    }

    fn closed(&self, nid: u64) {
        let mut state = self.lock();
        let Entry::Occupied(mut open) = state.open.entry(nid) else { return };
        open.get_mut().opens -= 1;
        if open.get().opens > 0 {
            return;
        }
        let Mode::Passthrough(digest, backing) = open.remove().mode else { return };
        drop(backing);
        if state.backing.get(&digest).is_some_and(|backing| backing.strong_count() == 0) {
            state.backing.remove(&digest);
        }
    }
}

impl Filesystem for PassthroughFs {
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

    fn open(&self, request: &Request, _flags: u32, reply: Reply) {
        let inode = match self.tree.inode(request.nodeid) {
            Ok(inode) if inode.is_file() => inode,
            Ok(_) => return reply.error(Errno::INVAL),
            Err(errno) => return reply.error(errno),
        };
        let nid = inode.nid;
        // An empty file has nothing to share, and an open one keeps its mode whatever became of its object.
        if inode.size == 0 || self.lock().open.contains_key(&nid) {
            return self.opened(nid, Made::Unshared, reply);
        }
        let myself = self.myself.clone();
        self.sharing.make(request, &inode, Wants::Object, move |made| match myself.upgrade() {
            Some(myself) => myself.opened(nid, made, reply),
            None => reply.error(Errno::NOTCONN),
        });
    }

    fn release(&self, request: &Request, _fh: u64, reply: Reply) {
        if let Ok(inode) = self.tree.inode(request.nodeid) {
            self.closed(inode.nid);
        }
        reply.ok();
    }

    fn read(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        self.tree.read(request, offset, size, reply);
    }

    fn lseek(&self, request: &Request, _fh: u64, offset: u64, whence: u32, reply: Reply) {
        self.tree.lseek(request, offset, whence, reply);
    }

    fn interrupt(&self, unique: u64) -> bool {
        self.sharing.interrupt(unique)
    }
}
