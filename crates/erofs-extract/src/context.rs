//! What all threads of an extraction share: the image, the wishes, what was counted and what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use erofs_image::{FileType, Image};

use crate::error::{Error, Result};
use crate::options::ExtractOptions;
use crate::report::{Loss, Observer, Report};
use crate::select::{Selection, Step};

/// Locks what stays consistent also when a thread has panicked over it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Context<'a> {
    pub(crate) image: &'a Image,
    pub(crate) options: &'a ExtractOptions,
    observer: &'a dyn Observer,
    stop: AtomicBool,
    /// What ended everything.
    fatal: Mutex<Option<Error>>,
    losses: Mutex<BTreeMap<String, Loss>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    directories: AtomicU64,
    files: AtomicU64,
    symlinks: AtomicU64,
    special: AtomicU64,
    hard_links: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

impl<'a> Context<'a> {
    pub(crate) fn new(image: &'a Image, options: &'a ExtractOptions, observer: &'a dyn Observer) -> Self {
        Self {
            image,
            options,
            observer,
            stop: AtomicBool::new(false),
            fatal: Mutex::new(None),
            losses: Mutex::new(BTreeMap::new()),
            counts: Counts::default(),
        }
    }

    /// Whether nothing more is to be done.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.options.cancel.load(Ordering::Relaxed)
    }

    /// The steps of a walk until it is stopped. Errors on the way are taken note of and passed over.
    pub(crate) fn steps(&self, selection: &mut Selection<'_>) -> impl Iterator<Item = Step> {
        selection
            .take_while(|_| !self.stopped())
            .filter_map(|step| step.map_err(|error| self.fail(error)).ok())
    }

    /// Takes note of an error: of one entry, or of the whole.
    pub(crate) fn fail(&self, error: Error) {
        if error.ends_everything() {
            lock(&self.fatal).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        } else {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            self.observer.failed(error);
        }
    }

    /// Takes note that something about an entry was not kept.
    pub(crate) fn lose(&self, what: &str, reason: &'static str, path: &[u8]) {
        let mut losses = lock(&self.losses);
        if let Some(loss) = losses.get_mut(what) {
            loss.count = loss.count.saturating_add(1);
            if *path < *loss.example {
                loss.example = path.to_vec();
            }
        } else {
            let loss = Loss { what: what.to_owned(), reason, count: 1, example: path.to_vec() };
            losses.insert(what.to_owned(), loss);
        }
    }

    pub(crate) fn count(&self, file_type: FileType) {
        let count = match file_type {
            FileType::Directory => &self.counts.directories,
            FileType::Regular => &self.counts.files,
            FileType::Symlink => &self.counts.symlinks,
            _ => &self.counts.special,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_link(&self) {
        self.counts.hard_links.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, entries: u64, bytes: u64) {
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.observer.advance(entries, bytes);
    }

    /// What it has come to, once all threads have ended.
    pub(crate) fn finish(self, left_out: u64) -> Result<Report> {
        if let Some(error) = lock(&self.fatal).take() {
            return Err(error);
        }
        if self.options.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let count = |count: AtomicU64| count.into_inner();
        let losses = self.losses.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Report {
            directories: count(self.counts.directories),
            files: count(self.counts.files),
            symlinks: count(self.counts.symlinks),
            special: count(self.counts.special),
            hard_links: count(self.counts.hard_links),
            bytes: count(self.counts.bytes),
            left_out,
            failed: count(self.counts.failed),
            losses: losses.into_values().collect(),
        })
    }
}
