//! Serving many connections, and other descriptors, on few threads.
//!
//! Each thread that runs the loop has an epoll of its own over every connection, registered with `EPOLLEXCLUSIVE`: the
//! kernel then wakes the first thread that waits, in the order in which they came. So one thread does all the work, and
//! follows its client's CPU, as long as it can; the others wait only when it is held up (see [`Helper`]). No lock, no
//! hand-over and no wake-up in vain are in the way of the usual case.

use crate::connection::{Connection, Ended, Step};
use crate::error::{Error, system};
use crate::follow::Follower;
use crate::helper::Helper;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Requests are small, since nothing is written; the kernel wants to see room for 8 KiB at least, and a long list of
/// forgotten nodes fills what there is.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// The token of the descriptor that ends the loop.
const STOP: u64 = u64::MAX;

/// Names a connection or descriptor of an [`EventLoop`]. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

type OnEnd = Box<dyn FnOnce(Ended) + Send>;
type OnReady = Box<dyn FnMut(BorrowedFd<'_>) -> ControlFlow<()> + Send>;

#[derive(Clone)]
enum Source {
    Connection(Arc<Connection>, Arc<Mutex<Option<OnEnd>>>),
    Descriptor(Arc<OwnedFd>, Arc<Mutex<OnReady>>),
}

impl Source {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(connection, _) => connection.as_fd(),
            Self::Descriptor(fd, _) => fd.as_fd(),
        }
    }
}

struct Shared {
    /// Locked before `workers` where both are.
    sources: RwLock<HashMap<u64, Source>>,
    /// The epolls of the threads that run the loop. The first also has the descriptors that are no connections.
    workers: Mutex<Vec<Arc<OwnedFd>>>,
    next: AtomicU64,
    /// Rounds that the first thread has finished: how the others see whether it is held up.
    progress: AtomicU64,
    stop: OwnedFd,
    stopping: AtomicBool,
}

/// Serves connections until it is told to stop.
#[derive(Debug)]
pub struct EventLoop {
    handle: Handle,
    follow: bool,
}

/// Adds to and takes from a running [`EventLoop`], from any thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl EventLoop {
    /// A loop without connections. `follow`: the first thread moves to its client's CPU, within the CPUs it has at first.
    pub fn new(follow: bool) -> Result<Self, Error> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd"))?;
        let shared = Shared {
            sources: RwLock::default(),
            workers: Mutex::default(),
            next: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            stop,
            stopping: AtomicBool::new(false),
        };
        Ok(Self { handle: Handle { shared: Arc::new(shared) }, follow })
    }

    /// For other threads, and for callbacks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves on the calling thread until [`Handle::stop`]. May be called on several threads: the first does what it can,
    /// the others what it is too busy for.
    pub fn run(&self) -> Result<(), Error> {
        let shared = &*self.handle.shared;
        let (epoll, first) = shared.enlist()?;
        let mut follower = Follower::new(self.follow && first);
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let mut helper = (!first).then(Helper::new);
        let outcome = self.turn(&epoll, &mut follower, helper.as_mut(), &mut buffer);
        lock(&shared.workers).retain(|other| !Arc::ptr_eq(other, &epoll));
        outcome
    }

    fn turn(
        &self,
        epoll: &OwnedFd,
        follower: &mut Follower,
        mut helper: Option<&mut Helper>,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let shared = &*self.handle.shared;
        let mut events = Vec::with_capacity(16);
        while !shared.stopping.load(Ordering::SeqCst) {
            events.clear();
            let timeout = helper.as_ref().and_then(|helper| helper.pause());
            match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(system("epoll_wait")(errno)),
            }
            let mut found = false;
            for event in &events {
                let token = event.data.u64();
                if token == STOP {
                    return Ok(());
                }
                let source =
                    shared.sources.read().unwrap_or_else(PoisonError::into_inner).get(&token).cloned();
                match source {
                    None => {}
                    Some(Source::Connection(connection, on_end)) => match connection.serve(buffer) {
                        Step::Served(client) => {
                            found = true;
                            follower.served(client);
                        }
                        Step::Idle => {}
                        Step::Ended(ended) => self.end(token, &connection, &on_end, ended),
                    },
                    Some(Source::Descriptor(fd, on_ready)) => {
                        let flow = lock(&on_ready)(fd.as_fd());
                        if flow.is_break() {
                            self.handle.remove(Token(token));
                        }
                    }
                }
            }
            match &mut helper {
                None => drop(shared.progress.fetch_add(1, Ordering::Relaxed)),
                Some(helper) => helper.looked(found, shared.progress.load(Ordering::Relaxed)),
            }
        }
        Ok(())
    }

    fn end(&self, token: u64, connection: &Connection, on_end: &Mutex<Option<OnEnd>>, ended: Ended) {
        // Every thread sees the end of a connection; the first to take the callback reports it.
        self.handle.remove(Token(token));
        let on_end = lock(on_end).take();
        if let Some(on_end) = on_end {
            connection.destroy();
            on_end(ended);
        }
    }
}

impl Handle {
    /// Serves `connection` from now on. `on_end` is called, on a serving thread, when the kernel ended it; not after
    /// [`Handle::remove`].
    pub fn add(
        &self,
        connection: Arc<Connection>,
        on_end: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<Token, Error> {
        self.insert(Source::Connection(connection, Arc::new(Mutex::new(Some(Box::new(on_end))))))
    }

    /// Calls `on_ready` on the first serving thread whenever `fd` can be read (or is closed at its other end), until it breaks. It
    /// must not wait for anything: requests of all connections would wait too.
    pub fn add_descriptor(
        &self,
        fd: OwnedFd,
        on_ready: impl FnMut(BorrowedFd<'_>) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Token, Error> {
        self.insert(Source::Descriptor(Arc::new(fd), Arc::new(Mutex::new(Box::new(on_ready)))))
    }

    /// Stops serving a connection or descriptor without ending it; false if it is not here any more. A request that a
    /// thread is busy with is still answered.
    pub fn remove(&self, token: Token) -> bool {
        let mut sources = self.shared.sources.write().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = sources.remove(&token.0) else { return false };
        for worker in lock(&self.shared.workers).iter() {
            // ENOENT: a descriptor that only the first thread has.
            let _ = epoll::delete(worker, source.fd());
        }
        true
    }

    /// Connections being served.
    pub fn connections(&self) -> usize {
        let sources = self.shared.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.values().filter(|source| matches!(source, Source::Connection(..))).count()
    }

    /// Ends the loop on all its threads, once each has finished what it is at. Connections stay open as long as the loop and
    /// its handles live.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // It can only fail by being full, and then everybody has been told.
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
    }

    fn insert(&self, source: Source) -> Result<Token, Error> {
        let token = self.shared.next.fetch_add(1, Ordering::Relaxed);
        // Held while the epolls learn of it, so that the source's end cannot come in between.
        let mut sources = self.shared.sources.write().unwrap_or_else(PoisonError::into_inner);
        let workers = lock(&self.shared.workers);
        for (index, worker) in workers.iter().enumerate() {
            if let Err(error) = watch(worker, index == 0, token, &source) {
                for worker in workers.iter() {
                    let _ = epoll::delete(worker, source.fd());
                }
                return Err(error);
            }
        }
        sources.insert(token, source);
        Ok(Token(token))
    }
}

impl Shared {
    /// Makes an epoll for a new thread; true for the first one.
    fn enlist(&self) -> Result<(Arc<OwnedFd>, bool), Error> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC).map_err(system("epoll_create"))?);
        epoll::add(&epoll, &self.stop, EventData::new_u64(STOP), EventFlags::IN)
            .map_err(system("epoll_ctl"))?;
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let mut workers = lock(&self.workers);
        let first = workers.is_empty();
        for (token, source) in sources.iter() {
            watch(&epoll, first, *token, source)?;
        }
        workers.push(Arc::clone(&epoll));
        Ok((epoll, first))
    }
}

fn watch(epoll: &OwnedFd, first: bool, token: u64, source: &Source) -> Result<(), Error> {
    let flags = match source {
        Source::Connection(..) => EventFlags::IN | EventFlags::EXCLUSIVE,
        Source::Descriptor(..) if first => EventFlags::IN,
        Source::Descriptor(..) => return Ok(()),
    };
    epoll::add(epoll, source.fd(), EventData::new_u64(token), flags).map_err(system("epoll_ctl"))
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handle").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
