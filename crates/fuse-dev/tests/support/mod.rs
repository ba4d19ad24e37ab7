//! A filesystem in memory and a way to mount it.

use fuse_dev::{
    Attr, Backing, Config, Connection, DirBuffer, DirPlusBuffer, Ended, Entry, Errno, EventLoop, FOREVER,
    Filesystem, Handle, Negotiated, OpenFlags, Pending, Reply, Request, Statfs, dirent_type,
};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a file's bytes are served.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// READ is parked until [`Memory::pending`] is asked.
    Parked(Vec<u8>),
    /// READ is answered by another thread.
    Late(Vec<u8>),
    /// READ blocks its serving thread this long.
    Blocking(Duration),
    /// READ panics.
    Panic,
    /// OPEN hands the file to the kernel.
    Backed(File),
}

#[derive(Debug)]
pub(crate) enum Node {
    Directory(BTreeMap<Vec<u8>, u64>),
    File(Content),
    Link(Vec<u8>),
}

/// How often each kind of request came.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) lookup: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) readdirplus: AtomicU64,
    pub(crate) destroyed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

/// A tree in memory. The node ids are places in the vector, from 1. A look-up of the name `slow` waits for ever.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    nodes: Vec<Node>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) counts: Counts,
    pub(crate) pending: Pending,
    pub(crate) slow: AtomicUsize,
    pub(crate) negotiated: Mutex<Option<Negotiated>>,
    backing: Mutex<Option<Arc<Backing>>>,
}

impl Memory {
    pub(crate) fn new(entries: Vec<(&str, Node)>) -> Self {
        let mut memory = Self { nodes: vec![Node::Directory(BTreeMap::new())], ..Self::default() };
        for (name, node) in entries {
            memory.add(1, name, node);
        }
        memory
    }

    pub(crate) fn add(&mut self, directory: u64, name: &str, node: Node) -> u64 {
        self.nodes.push(node);
        let id = self.nodes.len() as u64;
        let Some(Node::Directory(names)) = self.nodes.get_mut(directory as usize - 1) else {
            panic!("no directory")
        };
        names.insert(name.into(), id);
        id
    }

    pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Node {
        Node::File(Content::Bytes(bytes.into()))
    }

    fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    fn attr(&self, id: u64) -> Attr {
        let (mode, size) = match self.node(id) {
            Node::Directory(_) => (0o040_755, 4096),
            Node::Link(target) => (0o120_777, target.len() as u64),
            Node::File(Content::Bytes(bytes) | Content::Parked(bytes) | Content::Late(bytes)) => {
                (0o100_644, bytes.len() as u64)
            }
            Node::File(Content::Blocking(_) | Content::Panic) => (0o100_644, 1),
            Node::File(Content::Backed(file)) => (0o100_644, file.metadata().unwrap().len()),
        };
        Attr { ino: id + 1000, size, mode, nlink: 1, mtime: -5, blksize: 4096, ..Attr::default() }
    }

    fn list(&self, id: u64, offset: u64, mut push: impl FnMut(u64, u64, &[u8]) -> bool) {
        let Node::Directory(names) = self.node(id) else { return };
        let dots = [(&b"."[..], id), (b"..", 1)];
        let all = dots.into_iter().chain(names.iter().map(|(name, id)| (name.as_slice(), *id)));
        for (place, (name, id)) in (1..).zip(all).skip(offset as usize) {
            if !push(id, place, name) {
                break;
            }
        }
    }
}

impl Filesystem for Memory {
    fn init(&self, negotiated: &Negotiated) {
        *self.negotiated.lock().unwrap() = Some(*negotiated);
    }

    fn lookup(&self, request: &Request, name: &[u8], reply: Reply) {
        bump(&self.counts.lookup);
        if name == b"slow" {
            self.pending.park(reply);
            self.slow.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let Node::Directory(names) = self.node(request.nodeid) else { return reply.error(Errno::NOTDIR) };
        match names.get(name) {
            Some(id) => reply.entry(&Entry::forever(*id, self.attr(*id))),
            None => reply.negative(FOREVER),
        }
    }

    fn getattr(&self, request: &Request, reply: Reply) {
        reply.attr(&self.attr(request.nodeid), FOREVER);
    }

    fn readlink(&self, request: &Request, reply: Reply) {
        match self.node(request.nodeid) {
            Node::Link(target) => reply.data(target),
            _ => reply.error(Errno::INVAL),
        }
    }

    fn open(&self, request: &Request, _flags: u32, reply: Reply) {
        bump(&self.counts.open);
        let Node::File(Content::Backed(file)) = self.node(request.nodeid) else {
            return reply.error(Errno::NOSYS);
        };
        match reply.backing(file) {
            Ok(backing) => {
                let backing = Arc::new(backing);
                reply.open_passthrough(1, OpenFlags::NOFLUSH | OpenFlags::KEEP_CACHE, &backing);
                *self.backing.lock().unwrap() = Some(backing);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        bump(&self.counts.read);
        if request.resent() {
            bump(&self.counts.resent);
        }
        let part = |bytes: &[u8]| {
            let from = (offset as usize).min(bytes.len());
            bytes[from..bytes.len().min(from + size as usize)].to_vec()
        };
        match self.node(request.nodeid) {
            Node::File(Content::Bytes(bytes)) => reply.data(&part(bytes)),
            Node::File(Content::Parked(_)) => {
                self.pending.park(reply);
            }
            Node::File(Content::Late(bytes)) => {
                let bytes = part(bytes);
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    reply.data(&bytes);
                });
            }
            Node::File(Content::Blocking(time)) => {
                thread::sleep(*time);
                reply.data(b"x");
            }
            Node::File(Content::Panic) => panic!("a bug in the filesystem (this test makes one)"),
            _ => reply.error(Errno::ISDIR),
        }
    }

    fn readdir(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        let mut buffer = DirBuffer::new(size);
        self.list(request.nodeid, offset, |id, next, name| {
            let attr = self.attr(id);
            buffer.push(attr.ino, next, dirent_type(attr.mode), name)
        });
        reply.data(buffer.as_bytes());
    }

    fn readdirplus(&self, request: &Request, _fh: u64, offset: u64, size: u32, reply: Reply) {
        bump(&self.counts.readdirplus);
        let mut buffer = DirPlusBuffer::new(size);
        self.list(request.nodeid, offset, |id, next, name| {
            let attr = self.attr(id);
            if name == b"." || name == b".." {
                return buffer.push_name(attr.ino, next, dirent_type(attr.mode), name);
            }
            buffer.push(&Entry::forever(id, attr), next, name)
        });
        reply.data(buffer.as_bytes());
    }

    fn getxattr(&self, _request: &Request, name: &[u8], size: u32, reply: Reply) {
        match self.xattrs.get(name) {
            Some(value) => reply.xattr(size, value),
            None => reply.error(Errno::NODATA),
        }
    }

    fn listxattr(&self, _request: &Request, size: u32, reply: Reply) {
        let names: Vec<u8> = self.xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect();
        reply.xattr(size, &names);
    }

    fn statfs(&self, _request: &Request, reply: Reply) {
        let files = self.nodes.len() as u64;
        reply.statfs(&Statfs {
            blocks: 12,
            files,
            bsize: 4096,
            frsize: 4096,
            namelen: 255,
            ..Statfs::default()
        });
    }

    fn interrupt(&self, unique: u64) -> bool {
        self.pending.interrupt(unique)
    }

    fn destroy(&self) {
        bump(&self.counts.destroyed);
    }
}

/// A mount point with a descriptor of /dev/fuse behind it. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    directory: TempDir,
    pub(crate) device: OwnedFd,
}

impl Mount {
    /// `None`, with the reason printed, where this cannot be tested.
    pub(crate) fn new() -> Option<Self> {
        let device = match rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(device) => device,
            Err(errno) => return skip(&format!("/dev/fuse: {errno}")),
        };
        let directory = tempfile::tempdir().unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
            device.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
        match mount("fuse-dev-test", directory.path(), "fuse", flags, Some(options.as_c_str())) {
            Ok(()) => Some(Self { directory, device }),
            Err(errno) => skip(&format!("mount: {errno}")),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn device(&self) -> OwnedFd {
        self.device.try_clone().unwrap()
    }

    pub(crate) fn unmount(&self) {
        unmount(self.directory.path(), UnmountFlags::empty()).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Already unmounted in the good case of some tests.
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("skipped: {reason}");
    None
}

/// An event loop on threads of its own; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(threads: usize) -> Self {
        let events = Arc::new(EventLoop::new(false).unwrap());
        let handle = events.handle();
        let run = |_| {
            let events = Arc::clone(&events);
            thread::spawn(move || events.run().unwrap())
        };
        Self { handle, threads: (0..threads).map(run).collect() }
    }

    pub(crate) fn serve(
        &self,
        mount: &Mount,
        memory: &Arc<Memory>,
        config: Config,
    ) -> (Arc<Connection>, Receiver<Ended>) {
        let filesystem = Arc::clone(memory) as Arc<dyn Filesystem>;
        let connection = Arc::new(Connection::new(mount.device(), filesystem, config).unwrap());
        let (sender, ended) = channel();
        self.handle.add(Arc::clone(&connection), move |end| sender.send(end).unwrap_or_default()).unwrap();
        (connection, ended)
    }

    pub(crate) fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.handle.stop();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.join();
        }
    }
}

/// Waits until `true`; fails the test after ten seconds.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
