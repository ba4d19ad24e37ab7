//! The domain's lock: shared by everything that has a mount, exclusive for what deletes.

use super::Domain;
use crate::Error;
use crate::Result;
use crate::dir;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How long a mount waits for gc, verify or rm to end before it says that the domain is in use.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lock on a domain, given back when dropped.
///
/// It belongs to the open file, so a process that inherits the descriptor keeps it held.
#[derive(Debug)]
pub struct DomainLock {
    file: OwnedFd,
}

impl DomainLock {
    /// The descriptor that holds the lock, to be handed to another process.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives up the value and keeps the lock, for as long as the descriptor is open anywhere.
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }
}

impl Domain {
    /// Locks the domain for a mount; any number may.
    ///
    /// Waits up to ten seconds for somebody who repairs it, then [`Error::Busy`]. Whoever comes first
    /// after a reboot deletes what earlier boots left in `fresh/`.
    pub fn lock_shared(&self) -> Result<DomainLock> {
        let lock = self.open_lock()?;
        if self.has_other_boots()? && self.try_lock(&lock, FlockOperation::NonBlockingLockExclusive)? {
            self.remove_other_boots()?;
        }
        let end = Instant::now() + PATIENCE;
        while !self.try_lock(&lock, FlockOperation::NonBlockingLockShared)? {
            if Instant::now() >= end {
                return Err(Error::Busy { path: self.path().to_path_buf() });
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.check_not_removed(&lock)?;
        Ok(DomainLock { file: lock })
    }

    /// Locks the domain against every mount. [`Error::Busy`] if there is one; doesn't wait.
    pub fn lock_exclusive(&self) -> Result<DomainLock> {
        let lock = self.open_lock()?;
        if !self.try_lock(&lock, FlockOperation::NonBlockingLockExclusive)? {
            return Err(Error::Busy { path: self.path().to_path_buf() });
        }
        self.check_not_removed(&lock)?;
        Ok(DomainLock { file: lock })
    }

    fn open_lock(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self, "lock", flags, Mode::empty()) {
            Ok(lock) => Ok(lock),
            // Removed between opening the directory and now.
            Err(Errno::NOENT) => Err(Error::NotFound { path: self.path().to_path_buf() }),
            Err(errno) => Err(self.io("open the lock", "lock", errno)),
        }
    }

    fn try_lock(&self, lock: &OwnedFd, operation: FlockOperation) -> Result<bool> {
        match rustix::fs::flock(lock, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(self.io("lock", "lock", errno)),
        }
    }

    /// `remove` deletes the lock's name while it holds it: whoever gets it afterwards has nothing.
    fn check_not_removed(&self, lock: &OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(lock).map_err(|errno| self.io("stat", "lock", errno))?;
        if stat.st_nlink == 0 {
            return Err(Error::NotFound { path: self.path().to_path_buf() });
        }
        Ok(())
    }

    fn has_other_boots(&self) -> Result<bool> {
        let names = dir::names(self, "fresh").map_err(|errno| self.io("list", "fresh", errno))?;
        Ok(names.iter().any(|name| name != self.boot_id().as_bytes()))
    }

    /// Deletes what other boots left in `fresh/`, how many. Only under the exclusive lock.
    pub(crate) fn remove_other_boots(&self) -> Result<u64> {
        let mut removed = 0;
        let fresh = dir::open(self, "fresh").map_err(|errno| self.io("open", "fresh", errno))?;
        for name in dir::names(self, "fresh").map_err(|errno| self.io("list", "fresh", errno))? {
            if name != self.boot_id().as_bytes() {
                dir::remove_tree(&fresh, name.as_slice())
                    .map_err(|errno| self.io("delete another boot's objects", "fresh", errno))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
