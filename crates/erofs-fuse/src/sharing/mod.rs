//! One image's place in a domain: which of its files have an object that holds their very bytes, and how the others get one.
//!
//! Nothing here believes the image. A fact is a (nid, digest) pair of this image whose bytes the keeper hashed; a claim that turned out
//! false is remembered as false. Requests that wait for the keeper are kept apart from the event loops: each is called back exactly
//! once, by the keeper's answer, when its patience ends or when its caller is being killed, whichever comes first.

mod decoders;
mod publish;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use erofs_image::{Image, Inode};
use erofs_store::{Digest, Facts, ImageKey, ImageMount, KeeperClient, Objects, Outcome, SourceId};
use fuse_dev::Request;

pub(crate) use self::decoders::Decoders;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::mount::Sharer;
use crate::ticker::{Tick, Ticker};

/// How long an open waits for its object. A file that is opened for the first time in its domain costs reading and hashing once; up to
/// here that is better than a second copy in the page cache.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes a second that the keeper is taken to read and hash before it has shown what it does.
const FIRST_RATE: u64 = 400 << 20;

/// What it is never taken to be below: it may have been slow for being busy, and what is not made in time is cached twice.
const SLOWEST_RATE: u64 = 50 << 20;

/// Only files of at least this size tell how fast the keeper is.
const TELLING_SIZE: u64 = 4 << 20;

/// The longest list of pieces that is handed to the keeper; a file in more is served unshared.
pub(crate) const MAX_PIECES: usize = 1 << 16;

/// The most pieces of all files that are being made: what is not sent yet waits in memory, and an image of a few hundred kB can have
/// any number of files of [`MAX_PIECES`].
const MAX_PIECES_UNDERWAY: usize = 4 * MAX_PIECES;

/// A file may be this much larger than the blobs and still be hashed: holes and repeated chunks cost an image nothing, but the time to
/// hash them is taken from every mount of the domain.
const FREE_BYTES: u64 = 1 << 30;

/// The most objects being made at once; more can only be asked for by somebody who waits for none of them.
const MAX_FLIGHTS: usize = 1024;

/// How long a file stays unshared before its object is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How a request for an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The object is there and holds this file's bytes.
    Object(Digest),
    /// The image claims a fingerprint that the file's bytes don't have, or it claims one for
    /// bytes that can't be decoded.
    Refused,
    /// There is none, and there may never be one: no room, too fragmented, the keeper failed.
    Unshared,
    /// There is none yet: it is being made in the background.
    NotYet,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// The object, by its own name.
    Object,
    /// The object under the name `.v/KEY/NID`, which only a keeper of this boot makes.
    Link,
}

type Callback = Box<dyn FnOnce(Made) + Send>;

/// One image in a domain.
pub(crate) struct Sharing {
    objects: Objects,
    keeper: Arc<KeeperClient>,
    ticker: Arc<Ticker>,
    decoders: Arc<Decoders>,
    image: Arc<Image>,
    key: ImageKey,
    /// The keeper's names for the image and its devices, by blob index.
    sources: Vec<SourceId>,
    /// The longest file that is worth hashing.
    longest: u64,
    facts: Facts,
    log: Arc<Log>,
    /// Bytes a second that the keeper made lately.
    rate: AtomicU64,
    myself: Weak<Self>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Facts whose objects were seen; an object stays while its image is mounted.
    present: HashMap<u64, Digest>,
    /// Files that the keeper published for this mount.
    linked: HashSet<u64>,
    refused: HashSet<u64>,
    failed: HashMap<u64, Instant>,
    flights: HashMap<u64, Flight>,
    /// Pieces of all flights together.
    pieces: usize,
    /// Whether the ticker asks.
    watched: bool,
}

impl State {
    /// Whether a flight may take so many pieces along.
    fn admit(&mut self, nid: u64, pieces: usize) -> bool {
        let Some(flight) = self.flights.get_mut(&nid) else { return false };
        if self.pieces + pieces > MAX_PIECES_UNDERWAY {
            return false;
        }
        flight.pieces = pieces;
        self.pieces += pieces;
        true
    }

    /// Ends a flight.
    fn land(&mut self, nid: u64) -> Option<Flight> {
        let flight = self.flights.remove(&nid)?;
        self.pieces -= flight.pieces;
        Some(flight)
    }
}

struct Flight {
    size: u64,
    pieces: usize,
    start: Instant,
    /// It will take longer than anybody waits.
    long: bool,
    waiters: Vec<Waiter>,
}

struct Waiter {
    unique: u64,
    /// The caller's thread.
    pid: u32,
    since: Instant,
    callback: Callback,
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Sharing {
    /// Tells the keeper of the image and loads what is known about it.
    pub(crate) fn new(
        sharer: &Sharer,
        image: Arc<Image>,
        key: ImageKey,
        name: &str,
        log: Arc<Log>,
    ) -> Result<Arc<Self>> {
        let Sharer { domain, keeper, ticker, decoders, .. } = sharer;
        let mut sources = Vec::new();
        let mut bytes = 0_u64;
        while let Some(blob) = image.blob(sources.len()) {
            let fd = blob.as_fd().ok_or_else(|| Error::Usage("the image has no descriptor".into()))?;
            let size = rustix::fs::fstat(fd).map_err(|error| Error::io("image", error))?.st_size;
            bytes = bytes.saturating_add(u64::try_from(size).unwrap_or(0));
            sources.push(keeper.register_source(fd)?);
        }
        let mount = ImageMount { key, name: name.to_owned(), sources: sources.clone() };
        keeper.mount_image(&mount)?;
        let facts = domain.facts(&key)?;
        Ok(Arc::new_cyclic(|myself| Self {
            objects: domain.objects(),
            keeper: Arc::clone(keeper),
            ticker: Arc::clone(ticker),
            decoders: Arc::clone(decoders),
            image,
            key,
            sources,
            longest: bytes.saturating_mul(4).saturating_add(FREE_BYTES),
            facts,
            log,
            rate: AtomicU64::new(FIRST_RATE),
            myself: myself.clone(),
            state: Mutex::default(),
        }))
    }

    /// The image's name in the domain.
    pub(crate) fn key(&self) -> ImageKey {
        self.key
    }

    /// The object that holds this file's bytes, if that has been verified and the object is there.
    pub(crate) fn object(&self, nid: u64) -> Option<Digest> {
        if let Some(digest) = self.lock().present.get(&nid) {
            return Some(*digest);
        }
        let digest = self.facts.get(nid)?;
        if !self.objects.contains(&digest) {
            return None;
        }
        self.lock().present.insert(nid, digest);
        Some(digest)
    }

    /// Opens an object for reading.
    pub(crate) fn open(&self, digest: &Digest) -> Option<OwnedFd> {
        match self.objects.open(digest) {
            Ok(file) => file.map(OwnedFd::from),
            Err(error) => {
                self.log.line(format_args!("object {digest}: {error}"));
                None
            }
        }
    }

    /// Whether the image's claim about this file turned out false.
    pub(crate) fn is_refused(&self, nid: u64) -> bool {
        self.lock().refused.contains(&nid)
    }

    /// Calls back once with what became of the file's object, which `request` waits for. The object is made also if nobody waits for
    /// it any more.
    pub(crate) fn make(
        &self,
        request: &Request,
        inode: &Inode,
        wants: Wants,
        callback: impl FnOnce(Made) + Send + 'static,
    ) {
        let nid = inode.nid;
        let known = if wants == Wants::Object { self.object(nid) } else { None };
        if let Some(digest) = known {
            return callback(Made::Object(digest));
        }
        let now = Instant::now();
        let mut state = self.lock();
        let known = state.present.get(&nid).copied();
        if let Some(digest) = known.filter(|_| wants == Wants::Object || state.linked.contains(&nid)) {
            drop(state);
            return callback(Made::Object(digest));
        }
        if state.refused.contains(&nid) {
            drop(state);
            return callback(Made::Refused);
        }
        if state.failed.get(&nid).is_some_and(|since| now.duration_since(*since) < TRY_AGAIN) {
            drop(state);
            return callback(Made::Unshared);
        }
        let underway = state.flights.contains_key(&nid);
        if !underway && (state.flights.len() >= MAX_FLIGHTS || inode.size > self.longest) {
            drop(state);
            return callback(Made::Unshared);
        }
        let long = inode.size / self.rate.load(Ordering::Relaxed).max(SLOWEST_RATE) >= PATIENCE.as_secs();
        let flight = state.flights.entry(nid).or_insert_with(|| Flight {
            size: inode.size,
            pieces: 0,
            start: now,
            long,
            waiters: Vec::new(),
        });
        let callback: Callback = Box::new(callback);
        let turned_away = if flight.long {
            Some(callback)
        } else {
            flight.waiters.push(Waiter { unique: request.unique, pid: request.pid, since: now, callback });
            None
        };
        let watch = turned_away.is_none() && !std::mem::replace(&mut state.watched, true);
        drop(state);
        if watch {
            let myself: Weak<Self> = self.myself.clone();
            self.ticker.watch(myself);
        }
        if !underway {
            self.publish(inode);
        }
        if let Some(callback) = turned_away {
            callback(Made::NotYet);
        }
    }

    /// The caller of a request got a signal. If it kills the caller, the wait ends now. Any other leaves it waiting, for no longer than
    /// its patience: EINTR would be an error of `open` that nobody expects of a file, and one that overlayfs takes for *not here*. So a
    /// wait that ends is answered as if the object took too long. False if the request doesn't wait.
    pub(crate) fn interrupt(&self, unique: u64) -> bool {
        let mut state = self.lock();
        let waiter = state.flights.values_mut().find_map(|flight| {
            let index = flight.waiters.iter().position(|waiter| waiter.unique == unique)?;
            Some((&mut flight.waiters, index))
        });
        let Some((waiters, index)) = waiter else { return false };
        if waiters.get(index).is_some_and(|waiter| is_being_killed(waiter.pid)) {
            let waiter = waiters.swap_remove(index);
            drop(state);
            (waiter.callback)(Made::NotYet);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the keeper's answer.
    fn landed(&self, nid: u64, outcome: Outcome) {
        let made = match outcome {
            Outcome::Published(digest) => {
                self.facts.insert(nid, digest);
                Made::Object(digest)
            }
            Outcome::Mismatch { found } => {
                self.log.line(format_args!("nid {nid}: the image claims another fingerprint than sha256:{found}, which its bytes have; the file is refused"));
                Made::Refused
            }
            Outcome::NoSpace => Made::Unshared,
            Outcome::Io(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                self.log.line(format_args!(
                    "nid {nid}: no object could be made ({error}); the file is served unshared"
                ));
                Made::Unshared
            }
        };
        self.ended(nid, made);
    }

    /// Ends a flight: who waits for it is told.
    fn ended(&self, nid: u64, made: Made) {
        let mut state = self.lock();
        match made {
            Made::Object(digest) => {
                state.present.insert(nid, digest);
                state.linked.insert(nid);
                state.failed.remove(&nid);
            }
            Made::Refused => {
                state.refused.insert(nid);
            }
            _ => {
                state.failed.insert(nid, Instant::now());
            }
        }
        let Some(flight) = state.land(nid) else { return };
        drop(state);
        if matches!(made, Made::Object(_)) && flight.size >= TELLING_SIZE {
            self.learn(flight.size, flight.start.elapsed());
        }
        for waiter in flight.waiters {
            (waiter.callback)(made);
        }
    }

    /// Moves the rate a quarter of the way to what was just seen.
    fn learn(&self, size: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let seen = size.saturating_mul(1_000_000) / micros;
        let rate = self.rate.load(Ordering::Relaxed);
        self.rate.store(rate / 4 * 3 + seen / 4, Ordering::Relaxed);
    }
}

impl Tick for Sharing {
    fn tick(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let mut late = Vec::new();
        for flight in state.flights.values_mut() {
            late.extend(flight.waiters.extract_if(.., |waiter| now.duration_since(waiter.since) >= PATIENCE));
        }
        let more = state.flights.values().any(|flight| !flight.waiters.is_empty());
        state.watched = more;
        drop(state);
        for waiter in late {
            (waiter.callback)(Made::NotYet);
        }
        more
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.keeper.unmount_image(&self.key);
        for source in &self.sources {
            self.keeper.unregister_source(*source);
        }
    }
}

/// Whether a signal that nothing can catch any more waits for this thread: the kernel makes SIGKILL of each that ends a process. A
/// thread that can't be looked at is taken to be killed, since then it waits for nothing.
fn is_being_killed(pid: u32) -> bool {
    /// Bit `SIGKILL` - 1.
    const KILL: u64 = 1 << 8;
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")))
        .any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & KILL != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_fragmented_files_can_not_have_any_number_of_pieces_wait_in_memory() {
        let mut state = State::default();
        let flight =
            || Flight { size: 1 << 25, pieces: 0, start: Instant::now(), long: false, waiters: Vec::new() };
        let admitted = (0..MAX_FLIGHTS as u64).filter(|nid| {
            state.flights.insert(*nid, flight());
            state.admit(*nid, MAX_PIECES)
        });
        assert_eq!(admitted.count(), MAX_PIECES_UNDERWAY / MAX_PIECES);
        assert!(!state.admit(1 << 40, 1), "there is no such flight");
        for nid in 0..MAX_FLIGHTS as u64 {
            state.land(nid);
        }
        assert_eq!(state.pieces, 0);
        state.flights.insert(7, flight());
        assert!(state.admit(7, MAX_PIECES));
    }
}
