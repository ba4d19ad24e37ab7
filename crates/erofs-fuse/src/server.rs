//! The server process: one per domain, one per image outside domains.
//!
//! The main thread listens to mounters and waits for the end; the serving threads answer the kernel. The process ends by itself when
//! its last mount is gone and no mounter is connected.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use erofs_image::Image;
use erofs_store::{Domain, KeeperClient};
use erofs_sys::{fd, signal};
use fuse_dev::{Connection, EventLoop, Handle, Token};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::geteuid;
use serde::Deserialize;

use crate::control::{
    Answer, Kind, MAX_CLIENTS, MountRequest, MountStatus, Operation, Packet, VERSION, answer, parse, receive,
};
use crate::error::{Error, Result};
use crate::mount::{Sharer, connections, open_image};
use crate::sandbox;
use crate::ticker::Ticker;

/// How long the server waits for its first mount.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it stays after its last.
const GRACE: Duration = Duration::from_secs(1);

/// Threads that answer the kernel. The first does all the work until it is busy when a request comes.
const MOST_THREADS: usize = 4;

#[derive(Debug, Deserialize)]
struct Config {
    v: u32,
    control: i32,
    keeper: Option<i32>,
    domain: Option<i32>,
}

/// Runs the server until its last mount has gone. `config_json` is `{"v":1,"control":FD,"keeper":FD|null,"domain":FD|null}`: a listening
/// `SOCK_SEQPACKET` socket, a socket to the domain's keeper, the domain's directory. Must be called while the process has one thread.
pub fn main(config_json: &str) -> Result<()> {
    let config: Config = serde_json::from_str(config_json)
        .map_err(|error| Error::Usage(format!("server configuration: {error}")))?;
    if config.v != VERSION {
        return Err(Error::Usage(format!(
            "server configuration of version {}, expected {VERSION}",
            config.v
        )));
    }
    let ended = signal::termination().map_err(|error| Error::io("signals", error))?;
    sandbox::enter()?;
    let control = fd::duplicate(config.control).map_err(|error| Error::io("control socket", error))?;
    let sharer = match (config.keeper, config.domain) {
        (Some(keeper), Some(domain)) => {
            let keeper = fd::duplicate(keeper).map_err(|error| Error::io("keeper socket", error))?;
            let domain = fd::duplicate(domain).map_err(|error| Error::io("domain", error))?;
            let domain = Domain::from_fd(domain)?;
            Some(Sharer {
                _lock: domain.lock_shared()?,
                domain,
                keeper: Arc::new(KeeperClient::new(keeper)?),
                ticker: Arc::new(Ticker::start().map_err(|error| Error::io("thread", error))?),
                decoders: Arc::default(),
            })
        }
        (None, None) => None,
        _ => return Err(Error::Usage("server configuration: keeper and domain go together".into())),
    };
    Server::start(sharer)?.listen(&control, &ended)
}

/// The mounts, and the threads that serve them.
struct Server {
    sharer: Option<Sharer>,
    serving: Handle,
    threads: Vec<JoinHandle<()>>,
    mounts: Arc<Mutex<Mounts>>,
    /// Written when a mount has gone.
    wake: Arc<OwnedFd>,
}

/// What is served now.
#[derive(Default)]
struct Mounts {
    served: Vec<Mount>,
    /// When the last one went.
    last_gone: Option<Instant>,
    next: u64,
}

struct Mount {
    number: u64,
    id: String,
    kind: Kind,
    path: String,
    key: Option<String>,
    connections: Vec<Arc<Connection>>,
    /// Connections that have not ended.
    live: usize,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("sharer", &self.sharer).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts the serving threads.
    fn start(sharer: Option<Sharer>) -> Result<Self> {
        let serving = Arc::new(EventLoop::new(true)?);
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::io("eventfd", error))?;
        let mut server = Self {
            sharer,
            serving: serving.handle(),
            threads: Vec::new(),
            mounts: Arc::default(),
            wake: Arc::new(wake),
        };
        for _ in 0..count {
            let serving = Arc::clone(&serving);
            let thread = std::thread::Builder::new().name("serve".into()).spawn(move || {
                if let Err(error) = serving.run() {
                    crate::log::server(error);
                }
            });
            server.threads.push(thread.map_err(|error| Error::io("thread", error))?);
        }
        Ok(server)
    }

    /// Answers mounters until there is nothing left to serve or a signal came.
    fn listen(self, control: &OwnedFd, ended: &OwnedFd) -> Result<()> {
        let start = Instant::now();
        let mut clients: Vec<OwnedFd> = Vec::new();
        loop {
            let deadline = self.deadline(start, clients.is_empty());
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let ready = wait(control, ended, &self.wake, &clients, left)?;
            if ready.ended {
                break;
            }
            if ready.wake {
                // Only there to be noticed; what is read says nothing.
                let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            }
            let mut index = 0;
            clients.retain(|client| {
                let keep = !ready.clients.get(index).copied().unwrap_or(false) || self.serve_client(client);
                index += 1;
                keep
            });
            if ready.control
                && clients.len() < MAX_CLIENTS
                && let Ok(client) = accept_with(control, SocketFlags::CLOEXEC)
                && is_ours(&client)
            {
                clients.push(client);
            }
        }
        self.stop();
        Ok(())
    }

    /// When the process ends if nothing happens until then.
    fn deadline(&self, start: Instant, alone: bool) -> Option<Instant> {
        let mounts = self.lock();
        match (alone && mounts.served.is_empty(), mounts.last_gone) {
            (false, _) => None,
            (true, Some(gone)) => Some(gone + GRACE),
            (true, None) => Some(start + PATIENCE),
        }
    }

    /// Takes one message of a mounter; false when it has gone.
    fn serve_client(&self, client: &OwnedFd) -> bool {
        let packet = match receive(client) {
            Ok(Some(packet)) => packet,
            Ok(None) => return false,
            Err(error) => {
                return matches!(error, Error::Usage(_)) && answer(client, &Answer::from(&error)).is_ok();
            }
        };
        let said = self.handle(packet).unwrap_or_else(|error| Answer::from(&error));
        answer(client, &said).is_ok()
    }

    fn handle(&self, packet: Packet) -> Result<Answer> {
        match parse(&packet.bytes)? {
            Operation::Status => Ok(self.status()),
            Operation::Check { image } => open_image(&image, packet.fds).map(|image| describe(&image)),
            Operation::Mount(request) => self.mount(&request, packet.fds),
        }
    }

    fn mount(&self, request: &MountRequest, mut fds: Vec<OwnedFd>) -> Result<Answer> {
        let count = request.kind.connections();
        if fds.len() <= count {
            return Err(Error::Usage(format!("a mount message came with {} descriptors", fds.len())));
        }
        let image = fds.split_off(count);
        let image = open_image(&request.image, image)?;
        let description = describe(&image);
        let connections = connections(request, image, fds, self.sharer.as_ref())?;
        let mut mounts = self.lock();
        let number = mounts.next;
        mounts.next += 1;
        let mut served: Vec<Token> = Vec::new();
        for connection in &connections {
            let (mounts, wake) = (Arc::clone(&self.mounts), Arc::clone(&self.wake));
            // The lock is held: an end that comes at once finds the mount noted down.
            let token = self.serving.add(Arc::clone(connection), move |_| gone(&mounts, &wake, number));
            match token {
                Ok(token) => served.push(token),
                Err(error) => {
                    for token in served {
                        self.serving.remove(token);
                    }
                    return Err(error.into());
                }
            }
        }
        mounts.served.push(Mount {
            number,
            id: request.id.clone(),
            kind: request.kind,
            path: request.image.path.clone(),
            key: request.image.key.clone(),
            live: connections.len(),
            connections,
        });
        Ok(description)
    }

    fn status(&self) -> Answer {
        let mounts = self.lock();
        let mounts = mounts.served.iter().map(|mount| MountStatus {
            id: mount.id.clone(),
            kind: mount.kind,
            path: mount.path.clone(),
            key: mount.key.clone(),
            requests: mount.connections.iter().map(|connection| connection.requests()).sum(),
        });
        Answer::Status { ok: true, pid: std::process::id(), mounts: mounts.collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Mounts> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(self) {
        self.serving.stop();
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Takes note that a connection of mount `number` has ended.
fn gone(mounts: &Mutex<Mounts>, wake: &OwnedFd, number: u64) {
    let mut mounts = mounts.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(index) = mounts.served.iter().position(|mount| mount.number == number) else { return };
    if let Some(mount) = mounts.served.get_mut(index) {
        mount.live -= 1;
        if mount.live > 0 {
            return;
        }
    }
    let gone = mounts.served.swap_remove(index);
    if mounts.served.is_empty() {
        mounts.last_gone = Some(Instant::now());
    }
    drop(mounts);
    drop(gone);
    // Full means that the main thread has been told.
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

/// What can be attended to.
struct Ready {
    control: bool,
    ended: bool,
    wake: bool,
    /// For each client.
    clients: Vec<bool>,
}

fn wait(
    control: &OwnedFd,
    ended: &OwnedFd,
    wake: &OwnedFd,
    clients: &[OwnedFd],
    left: Option<Duration>,
) -> Result<Ready> {
    let mut polled: Vec<_> = [control, ended, wake]
        .into_iter()
        .chain(clients)
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
        .collect();
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut polled, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::io("poll", error)),
    }
    let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
    let mut next = || ready.next().unwrap_or(false);
    let (control, ended, wake) = (next(), next(), next());
    Ok(Ready { control, ended, wake, clients: ready.collect() })
}

/// Whether the other end is a process of this user.
fn is_ours(client: &OwnedFd) -> bool {
    socket_peercred(client).is_ok_and(|peer| peer.uid == geteuid())
}

/// What a mounter is told of an image.
fn describe(image: &Image) -> Answer {
    Answer::Image {
        ok: true,
        inodes: image.superblock().inos,
        blocks: image.block_count(),
        block_size: image.block_size(),
    }
}
