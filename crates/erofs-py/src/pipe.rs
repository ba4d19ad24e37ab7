//! A pipe to write to that waits for its reader no longer than anybody wants to wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// How long to wait for room before looking whether all is to end.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A pipe whose writes end with `ECANCELED` once `cancel` is set. A write that sleeps in the kernel until a reader
/// comes who has long stopped reading would not.
pub(crate) struct Pipe {
    file: File,
    cancel: Arc<AtomicBool>,
}

impl Pipe {
    /// `file` as such a pipe, if it is one that can be opened once more: not to block is a property that whoever
    /// else has it open would share.
    pub(crate) fn new(file: &File, cancel: &Arc<AtomicBool>) -> Option<Self> {
        if !file.metadata().ok()?.file_type().is_fifo() {
            return None;
        }
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).ok()?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Self { file, cancel: cancel.clone() })
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED.into());
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&PATIENCE)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
