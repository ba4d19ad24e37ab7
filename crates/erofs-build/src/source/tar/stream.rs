//! An archive that is read from front to back while somebody may want the build to stop.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often somebody who waits for a pipe looks whether it is for nothing.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Where an error of the stream itself is left.
pub(super) type Failed = Rc<Cell<Option<io::Error>>>;

/// What an archive is read from.
pub(super) enum Stream {
    /// A file, pipe or socket.
    File(File),
    /// Something of the caller's.
    Other(Box<dyn Read + Send + Sync>),
}

/// A stream whose errors are kept as they are, whatever reads from it.
pub(super) struct Watched<'a> {
    stream: Stream,
    cancel: &'a AtomicBool,
    failed: Failed,
}

impl<'a> Watched<'a> {
    pub(super) fn new(stream: Stream, cancel: &'a AtomicBool, failed: &Failed) -> Self {
        Self { stream, cancel, failed: Rc::clone(failed) }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
            match &mut self.stream {
                Stream::Other(stream) => return stream.read(buffer),
                Stream::File(file) => {
                    if poll(&mut [PollFd::new(&*file, PollFlags::IN)], Some(&PATIENCE))? == 0 {
                        continue;
                    }
                    match file.read(buffer) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        read => return read,
                    }
                }
            }
        }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_once(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed.set(Some(error));
            }
            kind.into()
        })
    }
}
