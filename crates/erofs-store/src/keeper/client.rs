//! The server's side of the keeper's socket.

use super::protocol;
use super::protocol::Answer;
use super::protocol::Reply;
use super::protocol::Request;
use super::socket;
use crate::Digest;
use crate::Error;
use crate::ImageKey;
use crate::Result;
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;

/// A descriptor that the keeper was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(pub u32);

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `len` bytes at `offset` of a source.
    Data {
        /// Which descriptor.
        source: SourceId,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `len` bytes of zeros that take no room.
    Hole {
        /// How many bytes.
        len: u64,
    },
}

/// An image that is about to be mounted.
#[derive(Clone, Debug)]
pub struct ImageMount {
    /// Its key.
    pub key: ImageKey,
    /// What people call it (its path); at most 4096 bytes are kept.
    pub name: String,
    /// The blobs that its files' pieces may lie in.
    pub sources: Vec<SourceId>,
}

/// A file that is to become an object.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The image, which [`KeeperClient::mount_image`] must have named before.
    pub image: ImageKey,
    /// The file's inode in it.
    pub nid: u64,
    /// The digest that the image claims; `None` if it claims none.
    pub claimed: Option<Digest>,
    /// The file's size, the sum of the pieces' lengths.
    pub size: u64,
    /// The file's bytes in order.
    pub pieces: Vec<Piece>,
}

/// What became of a [`Publish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes were hashed and have this digest, `/.v/KEY/NID` and the object's own name are
    /// links to the object, and the fact stands.
    Published(Digest),
    /// The image's claim is false; nothing was linked or recorded.
    Mismatch {
        /// The digest of the bytes that are really there.
        found: Digest,
    },
    /// No room (disk full, the domain's limit, too large for it, too many links): serve it unshared.
    NoSpace,
    /// It can't be done; an errno. `EPIPE` if the keeper has ended. Serve it unshared.
    Io(i32),
}

/// A server's connection to its keeper. All methods may be called from any thread.
///
/// Callbacks come from one thread of the client's own, in the order in which the keeper finishes;
/// they should be short, and must not wait for the keeper ([`KeeperClient::mount_image`],
/// [`KeeperClient::flush`]). When the keeper ends every outstanding callback gets [`Outcome::Io`]
/// and later calls fail at once.
#[derive(Debug)]
pub struct KeeperClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    socket: OwnedFd,
    state: Mutex<State>,
    /// Told when there is a backlog to send, and when there never will be one again.
    backlog: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last_call: u64,
    last_source: u32,
    waiting: HashMap<u64, Waiting>,
    /// What the socket had no room for, in order; sent by the writer.
    backlog: VecDeque<Packet>,
    /// Whether the writer holds the packet that comes before the backlog.
    writing: bool,
    ended: bool,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

/// Who is told when a call has been answered.
enum Waiting {
    Callback(Box<dyn FnOnce(Outcome) + Send>),
    Thread(mpsc::SyncSender<Answer>),
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Callback(_) => "Callback",
            Self::Thread(_) => "Thread",
        })
    }
}

impl Waiting {
    fn tell(self, answer: Answer) {
        match (self, answer) {
            (Self::Callback(callback), Answer::Outcome(outcome)) => callback(outcome),
            // A publish is never just done: whoever answers so is no keeper of ours.
            (Self::Callback(callback), Answer::Done) => callback(Outcome::Io(Errno::PROTO.raw_os_error())),
            // A thread that no longer waits has been told by the end of the connection.
            (Self::Thread(sender), answer) => drop(sender.try_send(answer)),
        }
    }
}

impl KeeperClient {
    /// Takes one end of a connected `SOCK_SEQPACKET` pair and starts the threads that read and, when
    /// the keeper is behind, write it.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let inner = Arc::new(Inner { socket, state: Mutex::new(State::default()), backlog: Condvar::new() });
        let start = |name: &str, work: fn(&Inner)| {
            let inner = Arc::clone(&inner);
            thread::Builder::new()
                .name(name.into())
                .spawn(move || work(&inner))
                .map_err(|error| Error::io("start a thread", name, error))
        };
        let client = Self { inner: Arc::clone(&inner) };
        start("keeper-reader", Inner::read)?;
        start("keeper-writer", Inner::write)?;
        Ok(client)
    }

    /// Hands the keeper a blob. Doesn't wait. The keeper closes it after
    /// [`KeeperClient::unregister_source`].
    pub fn register_source(&self, source: BorrowedFd<'_>) -> Result<SourceId> {
        self.register(source, false)
    }

    /// Hands the keeper bytes of a file that lie in no blob as they are, for one [`Publish`]: a regular file (a
    /// memfd), or the reading end of a pipe, whose bytes then have to be written while the publish is under way
    /// and are taken in order. Unregister it as soon as the publish was sent.
    pub fn hand_over(&self, bytes: BorrowedFd<'_>) -> Result<SourceId> {
        self.register(bytes, true)
    }

    fn register(&self, source: BorrowedFd<'_>, handed: bool) -> Result<SourceId> {
        let mut state = self.inner.state();
        // The last number stands for holes.
        let number = state.last_source.checked_add(1).filter(|number| *number < u32::MAX);
        let id = SourceId(number.ok_or(Error::Protocol("no number is left for a source"))?);
        state.last_source = id.0;
        self.inner.send(&mut state, Request::Source { id, handed }.encode(), Some(source))?;
        Ok(id)
    }

    /// Tells the keeper to close a blob; what is under way with it still ends well.
    pub fn unregister_source(&self, source: SourceId) {
        self.inner.tell(&Request::ForgetSource { id: source });
    }

    /// Says that an image is mounted, so that its objects are not evicted, and waits until the
    /// keeper has seen to that. Load the image's facts after this, not before. An image that is
    /// mounted twice is named twice and unmounted twice; the sources add up.
    pub fn mount_image(&self, image: &ImageMount) -> Result<()> {
        if image.sources.len() > protocol::MAX_SOURCES {
            return Err(Error::Protocol("an image of too many sources"));
        }
        let name =
            image.name.char_indices().take_while(|(at, char)| at + char.len_utf8() <= protocol::MAX_NAME);
        self.inner.ask(|call| Request::Mount {
            call,
            key: image.key,
            sources: image.sources.clone(),
            name: name.map(|(_, char)| char).collect(),
        })
    }

    /// Says that a mount of an image is gone.
    pub fn unmount_image(&self, image: &ImageKey) {
        self.inner.tell(&Request::Unmount { key: *image });
    }

    /// Has a file made into an object. Never blocks; `callback` is called exactly once, perhaps
    /// before this returns (if the keeper has ended, or the file has too many pieces).
    pub fn publish(&self, publish: &Publish, callback: impl FnOnce(Outcome) + Send + 'static) {
        let Publish { image, nid, claimed, size, ref pieces } = *publish;
        if pieces.len() > protocol::MAX_PIECES {
            return callback(Outcome::NoSpace);
        }
        let mut state = self.inner.state();
        if state.ended {
            drop(state);
            return callback(Outcome::Io(Errno::PIPE.raw_os_error()));
        }
        let call = state.next_call();
        state.waiting.insert(call, Waiting::Callback(Box::new(callback)));
        for packet in protocol::encode_publish(call, &image, nid, claimed, size, pieces) {
            if self.inner.send(&mut state, packet, None).is_err() {
                let waiting = state.waiting.remove(&call);
                drop(state);
                if let Some(waiting) = waiting {
                    waiting.tell(Answer::Outcome(Outcome::Io(Errno::PIPE.raw_os_error())));
                }
                return;
            }
        }
    }

    /// Waits until everything that was published before is durable.
    pub fn flush(&self) -> Result<()> {
        self.inner.ask(|call| Request::Flush { call })
    }

    /// Whether the keeper is still there.
    pub fn is_alive(&self) -> bool {
        !self.inner.state().ended
    }
}

impl Drop for KeeperClient {
    /// The threads end with the connection; what is outstanding is answered with an error.
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.ended = true;
        state.backlog.clear();
        drop(state);
        self.inner.backlog.notify_all();
        // It fails only if the keeper was quicker.
        let _ = rustix::net::shutdown(&self.inner.socket, Shutdown::Both);
    }
}

impl State {
    fn next_call(&mut self) -> u64 {
        self.last_call = self.last_call.wrapping_add(1);
        self.last_call
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends now if there is room, and otherwise has the writer send; packets never overtake.
    fn send(&self, state: &mut State, bytes: Vec<u8>, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        if state.ended {
            return Err(Error::KeeperGone);
        }
        if state.backlog.is_empty() && !state.writing {
            match socket::send(&self.socket, &bytes, descriptor, true) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(Error::KeeperGone),
                Err(errno) => return Err(Error::io("send to", "the keeper", errno)),
            }
        }
        let descriptor = descriptor
            .map(|descriptor| descriptor.try_clone_to_owned())
            .transpose()
            .map_err(|error| Error::io("keep a descriptor for", "the keeper", error))?;
        state.backlog.push_back(Packet { bytes, descriptor });
        self.backlog.notify_one();
        Ok(())
    }

    /// Sends what needs no answer; a keeper that is gone has forgotten everything anyway.
    fn tell(&self, request: &Request) {
        let _ = self.send(&mut self.state(), request.encode(), None);
    }

    /// Sends and waits for the answer.
    fn ask(&self, request: impl FnOnce(u64) -> Request) -> Result<()> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut state = self.state();
        let call = state.next_call();
        state.waiting.insert(call, Waiting::Thread(sender));
        if let Err(error) = self.send(&mut state, request(call).encode(), None) {
            state.waiting.remove(&call);
            return Err(error);
        }
        drop(state);
        match receiver.recv() {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Outcome(Outcome::Io(errno))) if errno != Errno::PIPE.raw_os_error() => {
                Err(Error::io("be served by", "the keeper", Errno::from_raw_os_error(errno)))
            }
            Ok(Answer::Outcome(Outcome::NoSpace)) => {
                Err(Error::io("be served by", "the keeper", Errno::NOSPC))
            }
            _ => Err(Error::KeeperGone),
        }
    }

    /// The reader's thread: answers, until the connection ends.
    fn read(&self) {
        let mut buffer = socket::buffer();
        while let Ok((length @ 1.., _)) = socket::receive(&self.socket, &mut buffer) {
            let Ok(reply) = Reply::decode(buffer.get(..length).unwrap_or_default()) else { break };
            let waiting = self.state().waiting.remove(&reply.call);
            if let Some(waiting) = waiting {
                waiting.tell(reply.answer);
            }
        }
        let mut state = self.state();
        state.ended = true;
        state.backlog.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.backlog.notify_all();
        // A keeper that talks nonsense is not listened to, nor written to, any more.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        for waiting in waiting.into_values() {
            waiting.tell(Answer::Outcome(Outcome::Io(Errno::PIPE.raw_os_error())));
        }
    }

    /// The writer's thread: what the socket had no room for.
    fn write(&self) {
        let mut state = self.state();
        loop {
            if state.ended {
                return;
            }
            let Some(packet) = state.backlog.pop_front() else {
                state = self.backlog.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            let descriptor = packet.descriptor.as_ref().map(AsFd::as_fd);
            let sent = socket::send(&self.socket, &packet.bytes, descriptor, false);
            state = self.state();
            state.writing = false;
            if sent.is_err() {
                // The reader meets the same end and tells everybody.
                let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
                return;
            }
        }
    }
}
