//! A mounted image: its facts in memory, and the file that they are appended to.

use super::source::Source;
use crate::Digest;
use crate::Domain;
use crate::ImageKey;
use crate::Result;
use crate::dir;
use crate::facts;
use crate::facts::Fact;
use crate::facts::RECORD;
use crate::images;
use crate::images::Held;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// False claims remembered per image, so that opening a lying file again hashes nothing.
const MAX_LIES: usize = 1 << 16;

/// An image while it is mounted; dropping it lets its objects be evicted.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) key: ImageKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    facts: HashMap<u64, Fact>,
    lies: HashMap<u64, Digest>,
    /// Open for appending, and locked shared: that is what says that the image is mounted.
    log: File,
    /// Facts about bytes that may not be durable yet.
    waiting: Vec<u8>,
    durable: bool,
}

impl Image {
    /// Loads what is known about the image, and keeps its objects from being evicted.
    pub(crate) fn mount(domain: &Domain, key: ImageKey, name: &str) -> Result<Self> {
        let lock = images::open_lock(domain)?;
        let _held = Held::new(&lock, true).map_err(|errno| domain.io("lock", images::LOCK, errno))?;
        let path = facts::path(&key);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let log = rustix::fs::openat(domain, &path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| domain.io("open", &path, errno))?;
        let file = facts::read(domain, &key)?;
        prepare_log(&log, file.has_header, &key).map_err(|errno| domain.io("write", &path, errno))?;
        rustix::fs::flock(&log, FlockOperation::LockShared)
            .map_err(|errno| domain.io("lock", &path, errno))?;
        images::write_record(domain, &key, name)?;
        let links = domain.by_nid_path(&key);
        dir::make(domain, &links).map_err(|errno| domain.io("make", &links, errno))?;
        let state = State {
            facts: file.facts,
            lies: HashMap::new(),
            log: log.into(),
            waiting: Vec::new(),
            durable: false,
        };
        Ok(Self { key, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the nid's bytes were found to be.
    pub(crate) fn fact(&self, nid: u64) -> Option<Digest> {
        self.state().facts.get(&nid).map(|fact| fact.digest)
    }

    /// What the bytes of a nid whose claim is false were found to be.
    pub(crate) fn lie(&self, nid: u64) -> Option<Digest> {
        self.state().lies.get(&nid).copied()
    }

    /// Remembers, while the image is mounted, that a claim is false.
    pub(crate) fn remember_lie(&self, nid: u64, found: Digest) {
        let mut state = self.state();
        if state.lies.len() < MAX_LIES {
            state.lies.insert(nid, found);
        }
    }

    /// Records a fact. One that can't be written (the disk is full) holds for as long as the image
    /// is mounted.
    pub(crate) fn record(&self, nid: u64, fact: Fact) {
        let mut state = self.state();
        if state.facts.insert(nid, fact) == Some(fact) {
            return;
        }
        let record = facts::encode(&self.key, nid, &fact);
        if state.durable {
            append(&mut state.log, &record);
        } else {
            state.waiting.extend(record);
        }
    }

    /// Makes the blobs durable, then writes the facts about them: after a crash a fact must not
    /// speak of bytes that were lost. If it can't be done the facts are written nowhere.
    pub(crate) fn settle(&self, sources: &[Arc<Source>]) {
        if sources.iter().any(|source| source.sync().is_err()) {
            return;
        }
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        append(&mut state.log, &waiting);
        state.durable = true;
    }

    /// Every object that the image's files are known to be.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.state().facts.values().map(|fact| fact.digest).collect()
    }
}

/// Leaves a header and whole records, nothing else.
fn prepare_log(log: impl std::os::fd::AsFd, has_header: bool, key: &ImageKey) -> Result<(), Errno> {
    if !has_header {
        rustix::fs::ftruncate(&log, 0)?;
        let written = rustix::io::write(&log, &facts::header(key))?;
        return if written == RECORD { Ok(()) } else { Err(Errno::NOSPC) };
    }
    let size = dir::size(&rustix::fs::fstat(&log)?);
    let torn = size % RECORD as u64;
    if torn == 0 { Ok(()) } else { rustix::fs::ftruncate(&log, size - torn) }
}

/// Appends whole records or, as far as that can be helped, nothing.
fn append(log: &mut File, records: &[u8]) {
    if records.is_empty() || log.write_all(records).is_ok() {
        return;
    }
    // Half a record would put every later one out of step.
    if let Ok(metadata) = log.metadata() {
        let _ = log.set_len(metadata.len() / RECORD as u64 * RECORD as u64);
    }
}
