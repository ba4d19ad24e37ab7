//! The descriptor of a connection, shared by everybody who may still have something to answer through it.

use crate::abi;
use rustix::io::{Errno, IoSlice};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use zerocopy::IntoBytes;

/// Interrupts remembered whose request nobody knew yet. Those of requests answered meanwhile are never asked for and just
/// fall out at the end.
const EARLY_INTERRUPTS: usize = 128;
/// Parts of an answer that need no allocation.
const FEW_PARTS: usize = 8;
/// `IOV_MAX`.
const MOST_PARTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
    early: Mutex<VecDeque<u64>>,
    any_early: AtomicBool,
}

impl Device {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, early: Mutex::default(), any_early: AtomicBool::new(false) }
    }

    /// Sends one message: an answer, or with `unique` 0 a notification.
    ///
    /// The kernel takes a message whole or not at all, from any thread.
    pub(crate) fn send(&self, unique: u64, error: i32, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + size_of::<abi::OutHeader>();
        let len = u32::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        let header = abi::OutHeader { len, error, unique };
        let header = IoSlice::new(header.as_bytes());
        if parts.len() <= FEW_PARTS {
            let mut all = [header; FEW_PARTS + 1];
            for (slot, part) in all.iter_mut().skip(1).zip(parts) {
                *slot = *part;
            }
            self.write(all.get(..=parts.len()).unwrap_or(&all))
        } else if parts.len() < MOST_PARTS {
            let mut all = Vec::with_capacity(parts.len() + 1);
            all.push(header);
            all.extend_from_slice(parts);
            self.write(&all)
        } else {
            let mut body = Vec::with_capacity(length);
            for part in parts {
                body.extend_from_slice(part);
            }
            self.write(&[header, IoSlice::new(&body)])
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        loop {
            match rustix::io::writev(&self.fd, parts) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Notes an interrupt of a request that no part of the filesystem knows (yet).
    pub(crate) fn note_interrupt(&self, unique: u64) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.len() >= EARLY_INTERRUPTS {
            early.pop_front();
        }
        early.push_back(unique);
        self.any_early.store(true, Ordering::SeqCst);
    }

    /// True if an interrupt of `unique` was noted; it is forgotten by this.
    pub(crate) fn take_interrupt(&self, unique: u64) -> bool {
        if !self.any_early.load(Ordering::SeqCst) {
            return false;
        }
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = early.iter().position(|known| *known == unique) else { return false };
        early.remove(place);
        self.any_early.store(!early.is_empty(), Ordering::SeqCst);
        true
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file registered with a connection, to back files opened by [`crate::Reply::open_passthrough`]; given back when dropped.
///
/// Keep it while any file that it backs is open, and use the same one for all opens of an inode: the kernel refuses a
/// second backing file for an inode that is open (EBUSY).
#[derive(Debug)]
pub struct Backing {
    device: Arc<Device>,
    id: u32,
}

impl Backing {
    pub(crate) fn open(device: &Arc<Device>, file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let id = erofs_sys::fuse::backing_open(device, file)?;
        Ok(Self { device: Arc::clone(device), id })
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // A connection that is gone has given its ids back itself.
        let _ = erofs_sys::fuse::backing_close(&self.device, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (std::io::PipeReader, Device) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, Device::new(writer.into()))
    }

    #[test]
    fn an_answer_of_any_number_of_parts_is_one_message() {
        for count in [0, 1, 8, 9, 1023, 1024, 2000] {
            let (reader, device) = device();
            let parts = vec![IoSlice::new(b"ab"); count];
            device.send(42, 0, &parts).unwrap();
            let mut message = vec![0; 8192];
            let length = rustix::io::read(&reader, message.as_mut_slice()).unwrap();
            assert_eq!(length, 16 + 2 * count);
            assert_eq!(message[0..4], u32::try_from(length).unwrap().to_ne_bytes());
            assert_eq!(message[8..16], 42_u64.to_ne_bytes());
            assert!(message[16..length].chunks(2).all(|part| part == b"ab"));
        }
    }

    #[test]
    fn interrupts_are_remembered_once_and_in_bounded_number() {
        let (_reader, device) = device();
        assert!(!device.take_interrupt(2));
        for unique in 0..1000 {
            device.note_interrupt(unique);
        }
        assert!(!device.take_interrupt(2), "the oldest are forgotten");
        assert!(device.take_interrupt(999));
        assert!(!device.take_interrupt(999));
    }
}
