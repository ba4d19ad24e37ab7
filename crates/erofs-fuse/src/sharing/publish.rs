//! How a file's bytes get to the keeper.
//!
//! The keeper copies bytes as they lie in the image's blobs; it decodes none, since it parses nothing that a stranger wrote. The
//! bytes of a compressed file are decoded here and handed over: up to [`IN_MEMORY`] in a sealed memfd once all of them have been
//! decoded, larger ones through a pipe while they are. The keeper hashes what it gets, so a decoder that was tricked can do no more
//! than an image that holds other bytes. Where the bytes don't decode nothing is published.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, sync_channel};

use erofs_image::{DataLayout, ErrorKind, Inode, Place, Scratch};
use erofs_store::{Digest, Outcome, Piece, Publish, SourceId};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::decoders::Job;
use super::{MAX_PIECES, Made, Sharing};

/// The largest file that is decoded into memory before the keeper gets it. The keeper makes larger ones one at a time.
const IN_MEMORY: u64 = 4 << 20;

/// Bytes that a pipe may hold, if the system lets it.
const PIPE: usize = 1 << 20;

/// What is written for a hole among data.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A run of a file: how long it is, and whether it is zeros that take no room.
type Run = (u64, bool);

/// Why a file was not handed over.
enum Trouble {
    Image(erofs_image::Error),
    System(Errno),
}

impl From<erofs_image::Error> for Trouble {
    fn from(error: erofs_image::Error) -> Self {
        Self::Image(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<erofs_store::Error> for Trouble {
    fn from(error: erofs_store::Error) -> Self {
        Self::System(Errno::from_raw_os_error(error.errno()))
    }
}

/// What lies where, as far as the keeper can copy it.
enum Found {
    /// All of it.
    Copy(Publish),
    /// Something has to be decoded.
    Encoded,
    /// It is in too many pieces.
    TooMany,
}

impl Sharing {
    /// Has the file made into an object.
    pub(super) fn publish(&self, inode: &Inode) {
        if matches!(inode.layout, DataLayout::CompressedFull | DataLayout::CompressedCompact) {
            return self.submit(inode);
        }
        let nid = inode.nid;
        let publish = match self.find(inode) {
            Ok(Found::Copy(publish)) => publish,
            // A tail among compressed metadata.
            Ok(Found::Encoded) => return self.submit(inode),
            Ok(Found::TooMany) => return self.landed(nid, Outcome::NoSpace),
            Err(error) => {
                self.log.line(&error);
                return self.landed(nid, Outcome::Io(error.errno()));
            }
        };
        if !self.lock().admit(nid, publish.pieces.len()) {
            return self.landed(nid, Outcome::NoSpace);
        }
        let myself = self.myself.clone();
        self.keeper.publish(&publish, move |outcome| {
            if let Some(sharing) = myself.upgrade() {
                sharing.landed(nid, outcome);
            }
        });
    }

    /// Where the file's bytes are.
    fn find(&self, inode: &Inode) -> erofs_image::Result<Found> {
        let claimed = self.image.fingerprint(inode)?.map(Digest);
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < inode.size {
            let extent = self.image.map(inode, at)?;
            // A run of no bytes would never end; the reader gives none, and if it did the file would be left unshared.
            let Some(next) = extent.logical.checked_add(extent.len).filter(|next| *next > at) else {
                return Ok(Found::TooMany);
            };
            let len = next.min(inode.size) - at;
            if pieces.len() == MAX_PIECES {
                return Ok(Found::TooMany);
            }
            pieces.push(match extent.place {
                Place::Hole => Piece::Hole { len },
                Place::Raw { blob, offset } => {
                    let Some(source) = self.sources.get(blob) else { return Ok(Found::TooMany) };
                    let offset = offset.checked_add(at - extent.logical);
                    let Some(offset) = offset else { return Ok(Found::TooMany) };
                    Piece::Data { source: *source, offset, len }
                }
                _ => return Ok(Found::Encoded),
            });
            at = next;
        }
        Ok(Found::Copy(Publish { image: self.key, nid: inode.nid, claimed, size: inode.size, pieces }))
    }

    /// Has a decoder hand the file over.
    fn submit(&self, inode: &Inode) {
        let (nid, inode) = (inode.nid, *inode);
        let (working, failing) = (self.myself.clone(), self.myself.clone());
        let work = move |scratch: &mut Scratch| {
            if let Some(sharing) = working.upgrade() {
                sharing.publish_decoded(&inode, scratch);
            }
        };
        let failed = move || {
            if let Some(sharing) = failing.upgrade() {
                sharing.landed(nid, Outcome::Io(Errno::IO.raw_os_error()));
            }
        };
        let job = Job { work: Box::new(work), failed: Box::new(failed) };
        if !self.decoders.submit(inode.size > IN_MEMORY, job) {
            self.landed(nid, Outcome::Io(Errno::AGAIN.raw_os_error()));
        }
    }

    /// Decodes a file and hands it over, and waits until the keeper has made it: so no more than one file for each thread is in
    /// memory.
    fn publish_decoded(&self, inode: &Inode, scratch: &mut Scratch) {
        let nid = inode.nid;
        let claimed = match self.image.fingerprint(inode) {
            Ok(claimed) => claimed.map(Digest),
            Err(error) => {
                self.log.line(&error);
                return self.landed(nid, Outcome::Io(error.errno()));
            }
        };
        match self.hand_over(inode, claimed, scratch) {
            Ok(outcome) => self.landed(nid, outcome),
            // Bytes that are not there can't have the digest. Without a claim what can be read of the file is nobody's loss.
            Err(Trouble::Image(error)) if claimed.is_some() && error.kind() == ErrorKind::Corrupt => {
                self.log.line(format_args!(
                    "{error}; the image claims a fingerprint of it, so the file is refused"
                ));
                self.ended(nid, Made::Refused);
            }
            Err(Trouble::Image(error)) => {
                self.log.line(&error);
                self.landed(nid, Outcome::Io(error.errno()));
            }
            Err(Trouble::System(errno)) => self.landed(nid, Outcome::Io(errno.raw_os_error())),
        }
    }

    fn hand_over(
        &self,
        inode: &Inode,
        claimed: Option<Digest>,
        scratch: &mut Scratch,
    ) -> Result<Outcome, Trouble> {
        let Some(runs) = self.runs(inode)? else { return Ok(Outcome::NoSpace) };
        if !self.lock().admit(inode.nid, runs.len()) {
            return Ok(Outcome::NoSpace);
        }
        let publish = |source| Publish {
            image: self.key,
            nid: inode.nid,
            claimed,
            size: inode.size,
            pieces: pieces(&runs, source),
        };
        if inode.size <= IN_MEMORY {
            let memory = memfd_create("file", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
            self.decode(inode, &runs, &memory, scratch)?;
            fcntl_add_seals(
                &memory,
                SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
            )?;
            return Ok(wait(&self.send(&memory, publish)?));
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // More at a time is only faster; an ordinary user may have used up what the system grants.
        let _ = fcntl_setpipe_size(&writer, PIPE);
        let answer = self.send(&reader, publish)?;
        // Only the keeper has it now, so writing ends when the keeper does not want the rest.
        drop(reader);
        let decoded = self.decode(inode, &runs, &writer, scratch);
        // The keeper waits for the rest of a file that ended early, and then gives it up.
        drop(writer);
        let outcome = wait(&answer);
        match decoded {
            Err(Trouble::System(Errno::PIPE)) | Ok(()) => Ok(outcome),
            Err(trouble) => Err(trouble),
        }
    }

    /// Sends the descriptor and what to make of it; the answer comes to who has the receiver.
    fn send(
        &self,
        bytes: &OwnedFd,
        publish: impl FnOnce(SourceId) -> Publish,
    ) -> Result<Receiver<Outcome>, Trouble> {
        let source = self.keeper.hand_over(bytes.as_fd())?;
        let (sender, receiver) = sync_channel(1);
        self.keeper.publish(&publish(source), move |outcome| {
            let _ = sender.try_send(outcome);
        });
        self.keeper.unregister_source(source);
        Ok(receiver)
    }

    /// The file's runs of data and of holes, neighbours joined; `None` if there are too many.
    fn runs(&self, inode: &Inode) -> erofs_image::Result<Option<Vec<Run>>> {
        let mut runs: Vec<Run> = Vec::new();
        for extent in self.image.extents(inode) {
            let extent = extent?;
            let is_hole = extent.place == Place::Hole;
            let count = runs.len();
            match runs.last_mut() {
                Some((len, hole)) if *hole == is_hole => *len = len.saturating_add(extent.len),
                _ if count == MAX_PIECES => return Ok(None),
                _ => runs.push((extent.len, is_hole)),
            }
        }
        Ok(Some(runs))
    }

    /// Writes the file's data, without its holes.
    fn decode(
        &self,
        inode: &Inode,
        runs: &[Run],
        to: &OwnedFd,
        scratch: &mut Scratch,
    ) -> Result<(), Trouble> {
        use std::ops::ControlFlow::{Break, Continue};
        let mut at: u64 = 0;
        for (len, is_hole) in runs {
            let end = at.saturating_add(*len);
            let mut written = Ok(());
            if !is_hole {
                self.image.for_each_piece(inode, at..end, scratch, &mut |_, piece| {
                    written = match piece {
                        erofs_image::Piece::Data(bytes) => write(to, bytes),
                        erofs_image::Piece::Hole(len) => write_zeros(to, len),
                    };
                    if written.is_ok() { Continue(()) } else { Break(()) }
                })?;
                written?;
            }
            at = end;
        }
        Ok(())
    }
}

/// The keeper's answer; one that is gone gives none.
fn wait(answer: &Receiver<Outcome>) -> Outcome {
    answer.recv().unwrap_or(Outcome::Io(Errno::PIPE.raw_os_error()))
}

/// The runs as the keeper is told of them: the data of all lies together in one source.
fn pieces(runs: &[Run], source: SourceId) -> Vec<Piece> {
    let mut offset: u64 = 0;
    let piece = |(len, is_hole): &Run| {
        if *is_hole {
            return Piece::Hole { len: *len };
        }
        let piece = Piece::Data { source, offset, len: *len };
        offset = offset.saturating_add(*len);
        piece
    };
    runs.iter().map(piece).collect()
}

fn write(to: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_zeros(to: &OwnedFd, mut len: u64) -> Result<(), Errno> {
    while len > 0 {
        let now = usize::try_from(len).unwrap_or(ZEROS.len()).min(ZEROS.len());
        write(to, ZEROS.get(..now).unwrap_or_default())?;
        len -= now as u64;
    }
    Ok(())
}
