//! Recently decoded clusters.
//!
//! What is read in steps smaller than a cluster, and fragments of one cluster that belong to many
//! files, would decode the same bytes again and again. The beginnings of clusters, as far as they
//! were needed, are kept here within a budget of bytes. A cluster is decoded by one thread at a
//! time: others that need it wait for that one. Nothing is locked meanwhile but the cluster.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use erofs_format::compression::Algorithm;

use crate::broken::Broken;
use crate::error::Result;
use crate::lock::{lock, wait};
use crate::room::{self, Room};

/// Threads that need different clusters seldom meet in one of so many parts.
const SHARDS: usize = 16;

/// What an entry costs besides its bytes.
const OVERHEAD: u64 = 256;

/// A cluster: where it lies, and how its bytes are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterKey {
    /// The blob, or `None` for a cluster inside the metabox.
    pub(crate) blob: Option<usize>,
    pub(crate) position: u64,
    pub(crate) plen: u32,
    pub(crate) algorithm: Algorithm,
    /// How much it has to decode to, if that is known. Extents that do not agree on it do not
    /// share what one of them got.
    pub(crate) exact: Option<usize>,
}

/// The beginning of what a cluster decodes to.
pub(crate) type Decoded = Arc<Vec<u8>>;

#[derive(Debug)]
pub(crate) struct Clusters {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    budget: u64,
    used: AtomicU64,
    room: Room,
    broken: Broken,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<ClusterKey, Entry>,
    /// The keys of all kept clusters, each once, the next to be given up first.
    order: VecDeque<ClusterKey>,
}

#[derive(Debug)]
enum Entry {
    /// `hot`: used since it was last passed over.
    Kept { bytes: Decoded, hot: bool },
    /// A thread is decoding it.
    Flying(Arc<Flight>),
}

/// A cluster that is being decoded; what comes of it, once it is known.
#[derive(Debug, Default)]
struct Flight {
    landed: Mutex<Option<Landing>>,
    bell: Condvar,
}

/// The cluster, or that it could not be decoded: then each thread finds out the reason itself.
type Landing = Option<Decoded>;

/// What a look at the cache gave.
enum Found {
    Bytes(Decoded),
    Wait(Arc<Flight>),
    /// It is ours to decode. `known`: a shorter beginning was here.
    Decode {
        flight: Arc<Flight>,
        known: bool,
    },
}

impl Clusters {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            budget,
            used: AtomicU64::new(0),
            room: Room::default(),
            broken: Broken::default(),
        }
    }

    /// Room for clusters that are being decoded.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Clusters that are known not to decode.
    pub(crate) fn broken(&self) -> &Broken {
        &self.broken
    }

    /// The first `len` bytes of a cluster or more, if they are here now.
    pub(crate) fn get(&self, key: ClusterKey, len: usize) -> Option<Decoded> {
        match self.shard(key).entries.get_mut(&key) {
            Some(Entry::Kept { bytes, hot }) if bytes.len() >= len => {
                *hot = true;
                Some(Arc::clone(bytes))
            }
            _ => None,
        }
    }

    /// The first `len` bytes of a cluster or more. What is not here is decoded by `decode`, which
    /// is told whether a shorter beginning of the cluster was here, so that it is likely to be
    /// read on, and gives `len` bytes or more.
    pub(crate) fn get_or_decode(
        &self,
        key: ClusterKey,
        len: usize,
        decode: &mut dyn FnMut(bool) -> Result<Vec<u8>>,
    ) -> Result<Decoded> {
        loop {
            match self.look(key, len) {
                Found::Bytes(bytes) => return Ok(bytes),
                Found::Wait(flight) => {
                    if let Some(bytes) = flight.wait().filter(|bytes| bytes.len() >= len) {
                        return Ok(bytes);
                    }
                }
                Found::Decode { flight, known } => {
                    let mut guard = Guard { clusters: self, key, flight, landing: None };
                    let bytes = Arc::new(decode(known)?);
                    guard.landing = Some(Arc::clone(&bytes));
                    return Ok(bytes);
                }
            }
        }
    }

    fn look(&self, key: ClusterKey, len: usize) -> Found {
        let mut shard = self.shard(key);
        let Shard { entries, order } = &mut *shard;
        let flight = Arc::new(Flight::default());
        match entries.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Entry::Flying(Arc::clone(&flight)));
                Found::Decode { flight, known: false }
            }
            Slot::Occupied(mut slot) => match slot.get_mut() {
                Entry::Flying(flight) => Found::Wait(Arc::clone(flight)),
                Entry::Kept { bytes, hot } if bytes.len() >= len => {
                    *hot = true;
                    Found::Bytes(Arc::clone(bytes))
                }
                Entry::Kept { bytes, .. } => {
                    self.used.fetch_sub(cost(bytes), Ordering::Relaxed);
                    slot.insert(Entry::Flying(Arc::clone(&flight)));
                    order.retain(|other| *other != key);
                    Found::Decode { flight, known: true }
                }
            },
        }
    }

    fn shard(&self, key: ClusterKey) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards.
        let number = self.hasher.hash_one(key) % SHARDS as u64;
        self.locked(usize::try_from(number).unwrap_or_default())
    }

    fn locked(&self, number: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[number % SHARDS])
    }

    /// Ends a flight: keeps the cluster, if there is one and room for it.
    fn land(&self, key: ClusterKey, landing: Option<&Decoded>) {
        // One cluster that fills most of the room would push out everything for itself.
        let kept = landing.filter(|bytes| cost(bytes) <= self.budget / 2);
        let mut shard = self.shard(key);
        let Some(bytes) = kept else {
            shard.entries.remove(&key);
            return;
        };
        shard.entries.insert(key, Entry::Kept { bytes: Arc::clone(bytes), hot: false });
        shard.order.push_back(key);
        drop(shard);
        self.used.fetch_add(cost(bytes), Ordering::Relaxed);
        self.make_room(key);
    }

    /// Gives up clusters, shard after shard, until what is kept is within the budget.
    fn make_room(&self, newest: ClusterKey) {
        let first = self.hasher.hash_one(newest);
        let mut idle = 0;
        for turn in 1.. {
            if self.used.load(Ordering::Relaxed) <= self.budget || idle > 2 * SHARDS {
                break;
            }
            let number = first.wrapping_add(turn) % SHARDS as u64;
            let given_up = self.locked(usize::try_from(number).unwrap_or_default()).give_up_one();
            match given_up {
                Some(bytes) => {
                    self.used.fetch_sub(cost(&bytes), Ordering::Relaxed);
                    if let Some(bytes) = Arc::into_inner(bytes) {
                        self.room.keep(bytes);
                    }
                    idle = 0;
                }
                None => idle += 1,
            }
        }
    }

    #[cfg(test)]
    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Shard {
    /// Gives up the cluster that has not been used for longest, about. None if all have been used
    /// since the last time.
    fn give_up_one(&mut self) -> Option<Decoded> {
        for _ in 0..self.order.len() {
            let key = self.order.pop_front()?;
            match self.entries.get_mut(&key) {
                Some(Entry::Kept { hot, .. }) if *hot => {
                    *hot = false;
                    self.order.push_back(key);
                }
                Some(Entry::Kept { .. }) => match self.entries.remove(&key) {
                    Some(Entry::Kept { bytes, .. }) => return Some(bytes),
                    _ => return None,
                },
                _ => (),
            }
        }
        None
    }
}

fn cost(bytes: &Decoded) -> u64 {
    (room::held(bytes) as u64).saturating_add(OVERHEAD)
}

impl Flight {
    fn wait(&self) -> Landing {
        let mut landed = lock(&self.landed);
        loop {
            if let Some(landing) = &*landed {
                return landing.clone();
            }
            landed = wait(&self.bell, landed);
        }
    }
}

/// Ends the flight whatever happens: who waits must not wait for ever.
struct Guard<'a> {
    clusters: &'a Clusters,
    key: ClusterKey,
    flight: Arc<Flight>,
    landing: Landing,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.clusters.land(self.key, self.landing.as_ref());
        *lock(&self.flight.landed) = Some(self.landing.take());
        self.flight.bell.notify_all();
    }
}

#[cfg(test)]
#[path = "clusters_tests.rs"]
mod tests;
