//! One mounted filesystem: its descriptor, what was negotiated, and who answers.

use crate::abi;
use crate::config::{Config, Negotiated};
use crate::device::Device;
use crate::dispatch;
use crate::error::{Error, system};
use crate::filesystem::Filesystem;
use crate::reply::Reply;
use crate::types::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use zerocopy::FromBytes;

/// A connection to the kernel, to be given to an [`crate::EventLoop`].
pub struct Connection {
    device: Arc<Device>,
    filesystem: Arc<dyn Filesystem>,
    config: Config,
    negotiated: OnceLock<Negotiated>,
    requests: AtomicU64,
    destroyed: AtomicBool,
}

/// Why a connection is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was unmounted, or aborted through `/sys/fs/fuse/connections`.
    Unmounted,
    /// It cannot be served; what is mounted there fails with ENOTCONN once the descriptor is closed everywhere.
    Failed(Error),
}

/// What [`Connection::serve`] did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Handled a request of this thread id.
    Served(u32),
    /// There was none (any more).
    Idle,
    /// There will be no more.
    Ended(Ended),
}

impl Connection {
    /// A fresh connection: `device` is an open /dev/fuse whose number was given to a mount. The handshake is the first thing
    /// that happens when it is served.
    pub fn new(device: OwnedFd, filesystem: Arc<dyn Filesystem>, config: Config) -> Result<Self, Error> {
        Self::over(device, filesystem, config)
    }

    /// Goes on with a connection that another process, or an earlier loop of this one, served before: `device` is the same
    /// open /dev/fuse and `negotiated` what that server's handshake gave.
    ///
    /// What the other read and did not answer is still owed; [`Connection::resend`] asks for it again. That server must
    /// have stopped.
    pub fn resume(
        device: OwnedFd,
        negotiated: Negotiated,
        filesystem: Arc<dyn Filesystem>,
    ) -> Result<Self, Error> {
        let connection = Self::over(device, filesystem, Config::default())?;
        connection.begin(negotiated);
        Ok(connection)
    }

    fn over(device: OwnedFd, filesystem: Arc<dyn Filesystem>, config: Config) -> Result<Self, Error> {
        let mut state = [PollFd::new(&device, PollFlags::IN)];
        poll(&mut state, Some(&Timespec::default())).map_err(system("poll"))?;
        if state.iter().any(|state| state.revents().contains(PollFlags::ERR)) {
            return Err(Error::NotMounted);
        }
        // Several threads may wake for one request.
        let flags = rustix::fs::fcntl_getfl(&device).map_err(system("fcntl"))?;
        rustix::fs::fcntl_setfl(&device, flags | OFlags::NONBLOCK).map_err(system("fcntl"))?;
        Ok(Self {
            device: Arc::new(Device::new(device)),
            filesystem,
            config,
            negotiated: OnceLock::new(),
            requests: AtomicU64::new(0),
            destroyed: AtomicBool::new(false),
        })
    }

    /// What the handshake gave, once there was one.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated.get().copied()
    }

    /// Requests read so far, by this process.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Has the kernel send again whatever was read through this connection and not answered. Those requests come with
    /// [`Request::resent`].
    pub fn resend(&self) -> Result<(), Error> {
        if !self.negotiated().is_some_and(|negotiated| negotiated.can_resend()) {
            return Err(Error::NoResend);
        }
        self.device.send(0, abi::NOTIFY_RESEND, &[]).map_err(system("FUSE_NOTIFY_RESEND"))
    }

    /// Reads and dispatches one request.
    pub(crate) fn serve(&self, buffer: &mut [u8]) -> Step {
        let length = match rustix::io::read(&*self.device, &mut *buffer) {
            Ok(length @ 1..) => length,
            // ENOENT: the request was interrupted before it got here. EIO: the kernel could not hand it over.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOENT | Errno::IO) => return Step::Idle,
            Ok(0) | Err(Errno::NODEV | Errno::CONNABORTED) => return Step::Ended(Ended::Unmounted),
            Err(errno) => return Step::Ended(Ended::Failed(system("read of /dev/fuse")(errno))),
        };
        let message = buffer.get(..length).unwrap_or_default();
        let Ok((header, rest)) = abi::InHeader::read_from_prefix(message) else { return Step::Idle };
        self.requests.fetch_add(1, Ordering::Relaxed);
        // Arguments end where the header says; extensions behind them are not for us.
        let arguments = (header.len as usize).checked_sub(size_of::<abi::InHeader>());
        let Some(arguments) = arguments.and_then(|length| rest.get(..length)) else {
            self.reply(header.unique).error(Errno::IO);
            return Step::Idle;
        };
        match header.opcode {
            abi::opcode::INIT => return self.handshake(&header, arguments),
            _ if self.negotiated.get().is_none() => {
                self.reply(header.unique).error(Errno::IO);
                return Step::Ended(Ended::Failed(Error::NoHandshake { opcode: header.opcode }));
            }
            abi::opcode::INTERRUPT => self.interrupt(arguments),
            abi::opcode::DESTROY => {
                self.destroy();
                self.reply(header.unique).ok();
            }
            abi::opcode::FORGET | abi::opcode::BATCH_FORGET => {}
            opcode => {
                let request = Request {
                    unique: header.unique,
                    nodeid: header.nodeid,
                    uid: header.uid,
                    gid: header.gid,
                    pid: header.pid,
                };
                let reply = self.reply(header.unique);
                // A bug that one request finds must not end the service of all: the reply says EIO as it is dropped, and
                // what else the panic broke is the filesystem's own.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    dispatch::dispatch(&*self.filesystem, opcode, &request, arguments, reply);
                }));
                return Step::Served(header.pid);
            }
        }
        // Not a client's doing: nobody to follow.
        Step::Served(0)
    }

    /// Tells the filesystem that nobody will ask any more; once.
    pub(crate) fn destroy(&self) {
        if !self.destroyed.swap(true, Ordering::SeqCst) {
            self.filesystem.destroy();
        }
    }

    fn handshake(&self, header: &abi::InHeader, arguments: &[u8]) -> Step {
        let reply = self.reply(header.unique);
        match self.config.negotiate(arguments) {
            Ok(negotiated) => {
                // Ready before the kernel may ask for anything else.
                self.begin(negotiated);
                reply.init(&negotiated.reply());
                Step::Served(0)
            }
            Err(error) => {
                reply.error(error.errno());
                Step::Ended(Ended::Failed(error))
            }
        }
    }

    fn begin(&self, negotiated: Negotiated) {
        if self.negotiated.set(negotiated).is_ok() {
            self.filesystem.init(&negotiated);
        }
    }

    /// An INTERRUPT is not answered itself.
    fn interrupt(&self, arguments: &[u8]) {
        let Ok((interrupt, _)) = abi::InterruptIn::read_from_prefix(arguments) else { return };
        if self.filesystem.interrupt(interrupt.unique) {
            return;
        }
        // Another thread may have read the request and not got to keeping its reply: leave a note, then look again.
        self.device.note_interrupt(interrupt.unique);
        if self.filesystem.interrupt(interrupt.unique) {
            self.device.take_interrupt(interrupt.unique);
        }
    }

    fn reply(&self, unique: u64) -> Reply {
        Reply::new(Arc::clone(&self.device), unique)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("device", &self.device)
            .field("negotiated", &self.negotiated)
            .finish_non_exhaustive()
    }
}
