//! Reading and checking what the server sends.

use super::Shared;
use super::client::Outcome;
use super::client::Piece;
use super::client::SourceId;
use super::content::Part;
use super::image::Image;
use super::protocol::Answer;
use super::protocol::File;
use super::protocol::MAX_PIECES;
use super::protocol::Request;
use super::publish::Worker;
use super::queue::Job;
use super::socket;
use super::source::Source;
use crate::Error;
use crate::ImageKey;
use crate::Result;
use crate::images;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;

/// How many blobs, and how many images, one server may have at a time.
const MAX_HELD: usize = 4096;

/// Reads requests until the connection ends, or until one is no request.
///
/// Mounted images go to `settler`; it gets the calls that wait for durability too, so that facts
/// are written before they are answered.
pub(crate) fn run(shared: &Shared, settler: mpsc::Sender<Settle>) -> Result<()> {
    let mut reader = Reader {
        shared,
        worker: Worker::new(shared)?,
        settler,
        sources: HashMap::new(),
        images: HashMap::new(),
        partial: None,
    };
    let mut buffer = socket::buffer();
    let result = loop {
        match socket::receive(&shared.socket, &mut buffer) {
            Ok((0, _)) | Err(Errno::CONNRESET) => break Ok(()),
            Ok((length, descriptor)) => {
                let packet = buffer.get(..length).unwrap_or_default();
                if let Err(error) =
                    Request::decode(packet).and_then(|request| reader.take(request, descriptor))
                {
                    break Err(error);
                }
            }
            Err(Errno::MSGSIZE) => break Err(Error::Protocol("a packet is too long")),
            Err(errno) => break Err(Error::io("read from", "the server", errno)),
        }
    };
    for key in reader.images.into_keys() {
        shared.images().remove(&key);
    }
    result
}

/// What the settler does, in order.
#[derive(Debug)]
pub(crate) enum Settle {
    /// Makes an image's blobs durable, and writes its facts from then on.
    Image(Arc<Image>, Vec<Arc<Source>>),
    /// Has the batch made durable, and the call answered.
    Flush(u64),
}

/// The settler's thread, apart from the batches': facts don't wait for a slow syncfs.
pub(crate) fn settle(shared: &Shared, work: &mpsc::Receiver<Settle>) {
    for what in work {
        match what {
            Settle::Image(image, sources) => image.settle(&sources),
            Settle::Flush(call) => shared.batch.flush(call),
        }
    }
}

/// What the connection has told so far.
struct Reader<'s> {
    shared: &'s Shared,
    /// For a small file that is asked for alone: waking somebody would take longer.
    worker: Worker<'s>,
    settler: mpsc::Sender<Settle>,
    /// `None` for a descriptor that can't be read; using it is an error of that file alone.
    sources: HashMap<SourceId, Option<Arc<Source>>>,
    images: HashMap<ImageKey, Mounted>,
    /// A publish whose pieces are still coming.
    partial: Option<(u64, File)>,
}

struct Mounted {
    image: Arc<Image>,
    name: String,
    mounts: usize,
    sources: HashSet<SourceId>,
}

impl Reader<'_> {
    fn take(&mut self, request: Request, descriptor: Option<OwnedFd>) -> Result<()> {
        if self.partial.is_some() != matches!(request, Request::Pieces { .. }) {
            return Err(Error::Protocol("pieces without a file, or a file without its pieces"));
        }
        if descriptor.is_some() != matches!(request, Request::Source { .. }) {
            return Err(Error::Protocol("a descriptor that nobody asked for, or none"));
        }
        match request {
            Request::Source { id, handed } => {
                let Some(descriptor) = descriptor else { return Err(Error::Protocol("no descriptor")) };
                if self.sources.len() >= MAX_HELD || self.sources.contains_key(&id) {
                    return Err(Error::Protocol("too many sources, or one twice"));
                }
                let source = if handed { Source::handed(descriptor) } else { Source::new(descriptor) };
                self.sources.insert(id, source.ok().map(Arc::new));
            }
            Request::ForgetSource { id } => {
                self.sources.remove(&id);
            }
            Request::Mount { call, key, sources, name } => {
                let answer = match self.mount(key, &sources, name) {
                    Ok(()) => Answer::Done,
                    Err(errno) => Answer::Outcome(Outcome::Io(errno)),
                };
                self.shared.answer(call, answer);
            }
            Request::Unmount { key } => self.unmount(&key),
            Request::Publish { call, file, more: true } => self.partial = Some((call, file)),
            Request::Publish { call, file, more: false } => self.publish(call, file),
            Request::Pieces { call, pieces, more } => {
                let Some((begun, mut file)) = self.partial.take() else {
                    return Err(Error::Protocol("pieces without a file"));
                };
                if begun != call || file.pieces.len() + pieces.len() > MAX_PIECES {
                    return Err(Error::Protocol("pieces of another file, or too many"));
                }
                file.pieces.extend(pieces);
                if more { self.partial = Some((call, file)) } else { self.publish(call, file) }
            }
            Request::Flush { call } => {
                self.shared.queue.drain();
                self.settle(Settle::Flush(call));
            }
        }
        Ok(())
    }

    fn mount(&mut self, key: ImageKey, sources: &[SourceId], name: String) -> Result<(), i32> {
        let used: Option<Vec<Arc<Source>>> =
            sources.iter().map(|id| self.sources.get(id).cloned().flatten()).collect();
        let Some(used) = used else { return Err(Errno::BADF.raw_os_error()) };
        if let Some(mounted) = self.images.get_mut(&key) {
            mounted.mounts += 1;
            mounted.sources.extend(sources);
            return Ok(());
        }
        if self.images.len() >= MAX_HELD {
            return Err(Errno::MFILE.raw_os_error());
        }
        let image = Image::mount(&self.shared.domain, key, &name).map_err(|error| error.errno())?;
        let image = Arc::new(image);
        self.shared.images().insert(key, Arc::clone(&image));
        self.settle(Settle::Image(Arc::clone(&image), used));
        let sources = sources.iter().copied().collect();
        self.images.insert(key, Mounted { image, name, mounts: 1, sources });
        Ok(())
    }

    fn settle(&self, what: Settle) {
        // Its thread ends only after this one.
        let _ = self.settler.send(what);
    }

    fn unmount(&mut self, key: &ImageKey) {
        let Some(mounted) = self.images.get_mut(key) else { return };
        mounted.mounts -= 1;
        if mounted.mounts > 0 {
            return;
        }
        if let Some(mounted) = self.images.remove(key) {
            self.shared.images().remove(key);
            // Only the order of eviction depends on it.
            let _ = images::write_record(&self.shared.domain, key, &mounted.name);
        }
    }

    fn publish(&mut self, call: u64, file: File) {
        match self.check(call, file) {
            Ok(job) => {
                // With more to read the workers are better at it, since there are two of them.
                let alone = rustix::io::ioctl_fionread(&self.shared.socket) == Ok(0);
                if let Some(job) = self.shared.queue.push(job, alone) {
                    self.worker.run_one(&job);
                }
            }
            Err(errno) => self.shared.answer_publish(call, Outcome::Io(errno.raw_os_error())),
        }
    }

    /// Believes nothing: every piece lies in a blob of this image, or in what was handed over for one file, and they
    /// add up to the size.
    fn check(&self, call: u64, file: File) -> Result<Job, Errno> {
        let mounted = self.images.get(&file.image).ok_or(Errno::INVAL)?;
        let mut left = file.size;
        let mut parts = Vec::with_capacity(file.pieces.len());
        for piece in file.pieces {
            let (part, len) = match piece {
                Piece::Hole { len } => (Part::Hole { len }, len),
                Piece::Data { source: id, offset, len } => {
                    let source = self.sources.get(&id).cloned().flatten().ok_or(Errno::BADF)?;
                    if !source.is_handed() && !mounted.sources.contains(&id) {
                        return Err(Errno::BADF);
                    }
                    if !source.holds(offset, len) {
                        return Err(Errno::IO);
                    }
                    (Part::Data { source, offset, len }, len)
                }
            };
            left = left.checked_sub(len).ok_or(Errno::INVAL)?;
            parts.push(part);
        }
        if left > 0 {
            return Err(Errno::INVAL);
        }
        Ok(Job::new(call, Arc::clone(&mounted.image), file.nid, file.claimed, file.size, parts))
    }
}
