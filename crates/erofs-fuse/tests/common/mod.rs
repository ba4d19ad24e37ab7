//! Real mounts for tests: a server and a keeper as processes, FUSE and overlay superblocks that are never attached anywhere, so that
//! nothing is left when a test fails.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

pub mod images;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use erofs_store::{Domain, ImageKey};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, recvmsg, sendmsg, socket_with,
    socketpair,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Whether this machine lets us mount at all; says why not.
pub fn can_mount() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        "no /dev/fuse"
    } else if fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).is_err() {
        "no fsopen"
    } else {
        return true;
    };
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    {
        eprintln!("skipped: {reason}");
    }
    false
}

/// A place on a real filesystem.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The example program, which cargo builds before it runs tests.
fn daemon() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/daemon")
}

fn seqpacket() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Starts the daemon with descriptors that it inherits under their numbers.
fn spawn(role: &str, config: &Value, inherited: &[&OwnedFd]) -> Child {
    for fd in inherited {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let child = Command::new(daemon()).arg(role).arg(config.to_string()).spawn().unwrap();
    for fd in inherited {
        fcntl_setfd(fd, FdFlags::CLOEXEC).unwrap();
    }
    child
}

/// A running server, with a keeper if it is in a domain.
pub struct Server {
    pub process: Child,
    keeper: Option<Child>,
    client: Option<OwnedFd>,
    pub domain: Option<Domain>,
    _place: TempDir,
}

impl Server {
    /// Outside domains.
    pub fn alone() -> Self {
        Self::start(None)
    }

    /// In the domain at `path`, which is made if it is not there.
    pub fn in_domain(path: &Path) -> Self {
        Self::start(Some(path))
    }

    fn start(path: Option<&Path>) -> Self {
        let place = scratch();
        let address = SocketAddrUnix::new(place.path().join("control")).unwrap();
        let flags = SocketFlags::CLOEXEC;
        let control = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        bind(&control, &address).unwrap();
        listen(&control, 8).unwrap();
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        let (process, keeper, domain) = if let Some(path) = path {
            let (domain, _) = Domain::open_or_create(path).unwrap();
            let directory = domain.as_fd().try_clone_to_owned().unwrap();
            let (ours, theirs) = seqpacket();
            let config = json!({"v": 1, "socket": number(&theirs), "domain": number(&directory)});
            let keeper = spawn("keeper", &config, &[&theirs, &directory]);
            drop(theirs);
            let config = json!({"v": 1, "control": number(&control), "keeper": number(&ours), "domain": number(&directory)});
            (spawn("server", &config, &[&control, &ours, &directory]), Some(keeper), Some(domain))
        } else {
            let config = json!({"v": 1, "control": number(&control), "keeper": null, "domain": null});
            (spawn("server", &config, &[&control]), None, None)
        };
        let client = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&client, &address).unwrap();
        Self { process, keeper, client: Some(client), domain, _place: place }
    }

    /// Sends a message and gives the answer.
    pub fn ask(&self, message: &Value, fds: &[BorrowedFd<'_>]) -> Value {
        let client = self.client.as_ref().unwrap();
        let text = message.to_string();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(client, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::empty()).unwrap();
        let mut bytes = vec![0; 65536];
        let mut none = RecvAncillaryBuffer::default();
        let got = recvmsg(client, &mut [IoSliceMut::new(&mut bytes)], &mut none, RecvFlags::empty()).unwrap();
        serde_json::from_slice(&bytes[..got.bytes]).unwrap()
    }

    /// Asks for a mount and insists on it.
    fn mount(&self, kind: &str, image: &Path, fuse: &[&OwnedFd]) {
        let file = File::open(image).unwrap();
        let key = self.domain.is_some().then(|| ImageKey::of(&[file.as_fd()], 0).unwrap().to_hex());
        let message = json!({"v": 1, "op": "mount", "id": "test", "kind": kind, "owners": null,
            "image": {"path": image, "key": key, "offset": 0, "devices": 0}});
        let mut fds: Vec<_> = fuse.iter().map(AsFd::as_fd).collect();
        fds.push(file.as_fd());
        let answer = self.ask(&message, &fds);
        assert_eq!(answer["ok"], true, "{answer}");
    }

    /// A mount of the `fuse` back end.
    pub fn fuse(&self, image: &Path) -> Tree {
        let (device, mount) = fuse_mount();
        self.mount("fuse", image, &[&device]);
        Tree::new(vec![mount])
    }

    /// The same, passed through.
    pub fn passthrough(&self, image: &Path) -> Tree {
        let (device, mount) = fuse_mount();
        self.mount("passthrough", image, &[&device]);
        Tree::new(vec![mount])
    }

    /// A mount of the `overlay` back end.
    pub fn overlay(&self, image: &Path) -> Tree {
        let ((meta_device, meta), (lazy_device, lazy)) = (fuse_mount(), fuse_mount());
        self.mount("overlay", image, &[&meta_device, &lazy_device]);
        // Overlayfs copies the root's mode and owner as they are in memory, and FUSE knows them once it has asked.
        rustix::fs::fstat(&meta).unwrap();
        let domain = self.domain.as_ref().unwrap();
        let (objects, fresh) = (domain.objects_dir().unwrap(), domain.fresh_dir().unwrap());
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_flag(&context, "userxattr").unwrap();
        fsconfig_set_fd(&context, "lowerdir+", &meta).unwrap();
        for layer in [&objects, &lazy, &fresh] {
            fsconfig_set_fd(&context, "datadir+", layer).unwrap();
        }
        fsconfig_create(&context).unwrap();
        let overlay = attach(&context);
        Tree::new(vec![overlay, meta, lazy])
    }

    /// Has the keeper stand still.
    pub fn stop_keeper(&self) {
        self.signal_keeper(Signal::STOP);
    }

    /// Lets it go on.
    pub fn continue_keeper(&self) {
        self.signal_keeper(Signal::CONT);
    }

    /// Ends it.
    pub fn kill_keeper(&mut self) {
        let keeper = self.keeper.as_mut().unwrap();
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    fn signal_keeper(&self, signal: Signal) {
        kill_process(Pid::from_child(self.keeper.as_ref().unwrap()), signal).unwrap();
    }

    /// Requests of all mounts so far.
    pub fn requests(&self) -> u64 {
        let status = self.ask(&json!({"v": 1, "op": "status"}), &[]);
        status["mounts"].as_array().unwrap().iter().map(|mount| mount["requests"].as_u64().unwrap()).sum()
    }

    /// Closes the mounter's connection.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, longest: Duration) -> Option<std::process::ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < longest {
            if let Some(status) = self.process.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

/// A FUSE superblock and its device, not yet served.
fn fuse_mount() -> (OwnedFd, OwnedFd) {
    let device = OwnedFd::from(File::options().read(true).write(true).open("/dev/fuse").unwrap());
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(&context, "source", "pyerofs").unwrap();
    fsconfig_set_string(&context, "fd", device.as_raw_fd().to_string()).unwrap();
    fsconfig_set_string(&context, "rootmode", "40000").unwrap();
    for id in ["user_id", "group_id"] {
        fsconfig_set_string(&context, id, "0").unwrap();
    }
    for flag in ["default_permissions", "allow_other", "ro"] {
        fsconfig_set_flag(&context, flag).unwrap();
    }
    fsconfig_create(&context).unwrap();
    let mount = attach(&context);
    (device, mount)
}

fn attach(context: &OwnedFd) -> OwnedFd {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

/// A mounted image, reachable through its descriptor only; unmounted when dropped.
pub struct Tree {
    mounts: Vec<OwnedFd>,
}

impl Tree {
    fn new(mounts: Vec<OwnedFd>) -> Self {
        Self { mounts }
    }

    /// A path into it that a child process can use.
    pub fn inherit(&self, inside: &str) -> PathBuf {
        fcntl_setfd(&self.mounts[0], FdFlags::empty()).unwrap();
        self.path(inside)
    }

    /// A path into it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{inside}", self.mounts[0].as_raw_fd()))
    }
}
