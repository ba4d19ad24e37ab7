//! An image that is open, also in a process that was forked from the one that opened it.
//!
//! A fork copies the memory of all threads and runs one of them: a lock that another thread held stays locked in the
//! child, and what that thread was about to deliver never comes. So a child opens the image again, over the same
//! sources, the first time it uses it; nothing that the parent's readers share is touched there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use erofs_image::{Image, OpenOptions};
use pyo3::prelude::*;

use crate::source::Blob;

/// How often this process, or those it was forked from, came out of a fork as the child.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The number that changes in a forked child.
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// To be called in each forked child, before anything else of this module.
#[pyfunction]
pub(crate) fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    crate::reading::forget_workers();
}

/// A value, and the number of forks when it was made.
#[derive(Debug)]
struct Dated<T> {
    forks: u64,
    value: T,
}

/// An image and what it was opened with.
#[derive(Debug)]
pub(crate) struct Handle {
    primary: Blob,
    devices: Vec<Blob>,
    options: OpenOptions,
    open: RwLock<Dated<Arc<Image>>>,
}

impl Handle {
    /// Opens an image. `options` name no devices; they are given as blobs.
    pub(crate) fn open(
        primary: Blob,
        devices: Vec<Blob>,
        mut options: OpenOptions,
    ) -> Result<Self, erofs_image::Error> {
        options.devices = devices.iter().map(|device| Arc::clone(&device.source)).collect();
        let forks = forks();
        let value = Arc::new(Image::open(Arc::clone(&primary.source), options.clone())?);
        Ok(Self { primary, devices, options, open: RwLock::new(Dated { forks, value }) })
    }

    /// The image, opened again if this is a child of the process that opened it.
    pub(crate) fn image(&self) -> Result<Arc<Image>, erofs_image::Error> {
        let forks = forks();
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if open.forks == forks {
                return Ok(Arc::clone(&open.value));
            }
        }
        let value = Arc::new(Image::open(Arc::clone(&self.primary.source), self.options.clone())?);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        *open = Dated { forks, value };
        Ok(Arc::clone(&open.value))
    }

    /// A blob: 0 is the primary, then the devices.
    pub(crate) fn blob(&self, index: usize) -> Option<&Blob> {
        match index.checked_sub(1) {
            None => Some(&self.primary),
            Some(device) => self.devices.get(device),
        }
    }
}

/// Something of an image that a forked child must make anew, such as a file that is read ahead.
#[derive(Debug)]
pub(crate) struct PerProcess<T>(RwLock<Option<Dated<Arc<T>>>>);

impl<T> PerProcess<T> {
    /// Not made yet.
    pub(crate) fn new() -> Self {
        Self(RwLock::new(None))
    }

    /// What was made in this process; else it is made now.
    pub(crate) fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let forks = forks();
        {
            let made = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(made) = made.as_ref().filter(|made| made.forks == forks) {
                return Ok(Arc::clone(&made.value));
            }
        }
        let value = Arc::new(make()?);
        let mut made = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *made = Some(Dated { forks, value: Arc::clone(&value) });
        Ok(value)
    }
}
