//! The images that a domain knows: what they are called, what is known about them, who has them
//! mounted.
//!
//! Two locks lie in `images/`. Whoever has an image mounted holds `images/KEY` shared, so a keeper
//! that dies gives it back. `images/.lock` orders publishing against eviction: shared while an
//! object is found, linked and recorded; exclusive while an image is added or objects are removed.

use crate::Digest;
use crate::Domain;
use crate::ImageKey;
use crate::Result;
use crate::dir;
use crate::facts;
use crate::facts::FactsFile;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::OwnedFd;

/// The file that orders publishing against eviction.
pub(crate) const LOCK: &str = "images/.lock";

/// What `images/KEY.json` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) v: u32,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) last_mounted: u64,
}

/// An image that the domain knows.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) key: ImageKey,
    pub(crate) record: Record,
    pub(crate) file: FactsFile,
}

impl Known {
    /// The distinct objects that its files are.
    pub(crate) fn digests(&self) -> HashSet<Digest> {
        self.file.facts.values().map(|fact| fact.digest).collect()
    }
}

/// Everything that is known, last mounted first.
pub(crate) fn all(domain: &Domain) -> Result<Vec<Known>> {
    let names = dir::names(domain, "images").map_err(|errno| domain.io("list", "images", errno))?;
    let mut known = Vec::new();
    for name in names {
        let Some(key) = std::str::from_utf8(&name).ok().and_then(ImageKey::from_hex) else { continue };
        let record = read_record(domain, &key);
        let file = facts::read(domain, &key)?;
        known.push(Known { key, record, file });
    }
    known.sort_by_key(|image| Reverse((image.record.last_mounted, image.key)));
    Ok(known)
}

/// What the image was. It is for people and for the order of eviction, so one that can't be read is
/// an old image without a name.
fn read_record(domain: &Domain, key: &ImageKey) -> Record {
    let text = dir::read_small(domain, &format!("{}.json", facts::path(key)), 64 << 10);
    text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Remembers that the image is, or just was, mounted.
pub(crate) fn write_record(domain: &Domain, key: &ImageKey, name: &str) -> Result<()> {
    let path = format!("{}.json", facts::path(key));
    let record = Record { v: 1, name: name.to_owned(), last_mounted: dir::now() };
    serde_json::to_vec(&record)
        .map_err(std::io::Error::from)
        .and_then(|text| dir::write_whole(domain, "images/", &format!("{key}.json"), &text))
        .map_err(|error| domain.io("write", &path, error))
}

/// How many of the images each object belongs to.
pub(crate) fn references<'k>(images: impl IntoIterator<Item = &'k Known>) -> HashMap<Digest, u64> {
    let mut references = HashMap::new();
    for image in images {
        for digest in image.digests() {
            *references.entry(digest).or_insert(0) += 1;
        }
    }
    references
}

/// Opens `images/.lock` without locking it.
pub(crate) fn open_lock(domain: &Domain) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(domain, LOCK, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| domain.io("open", LOCK, errno))
}

/// Holds a lock for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Held<'l>(&'l OwnedFd);

impl<'l> Held<'l> {
    /// Waits for the lock; they are held for a moment only, or while objects are evicted.
    pub(crate) fn new(lock: &'l OwnedFd, exclusive: bool) -> Result<Self, Errno> {
        let operation = if exclusive { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
        loop {
            match rustix::fs::flock(lock, operation) {
                Ok(()) => return Ok(Self(lock)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Unlocking what is locked can't fail, and closing the file would do it as well.
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// Whether somebody has the image mounted. To be asked under the exclusive `images/.lock`.
pub(crate) fn is_mounted(domain: &Domain, key: &ImageKey) -> Result<bool> {
    let path = facts::path(key);
    let file = match dir::open_file(domain, &path) {
        Err(Errno::NOENT) => return Ok(false),
        other => other.map_err(|errno| domain.io("open", &path, errno))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(domain.io("lock", &path, errno)),
    }
}
