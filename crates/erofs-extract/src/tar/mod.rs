//! Extraction as a tar stream.
//!
//! Entries come in the order of the walk, sorted by name within a directory. Threads read and encode them in
//! groups; the calling thread walks, puts the groups in order and writes them, so that only a few groups are in
//! memory at a time.

mod header;
mod sparse;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use erofs_image::{FileType, Image, Piece, Scratch};

use crate::context::{Context, lock};
use crate::cuts::{CUT, Cuts};
use crate::error::{Error, Result};
use crate::links::{Links, Meet};
use crate::options::ExtractOptions;
use crate::pool;
use crate::report::{Observer, Report};
use crate::select::{Selection, Step};

use header::{BLOCK, Member, member_name};
use sparse::Layout;

/// Bytes of content, about, in a group of small files.
const GROUP_BYTES: u64 = 1 << 20;
/// Entries in a group.
const GROUP: usize = 256;
/// Groups that may be under way: each may be as large as a part of a file. More threads would have nothing to
/// do, and each would keep what it once allocated.
const MAX_WAITING: usize = 8;
/// An archive is a whole number of such records, as tar programs write it.
const RECORD: u64 = 20 * BLOCK as u64;

/// Writes `image`, or what `options` choose of it, to `stream` as a pax archive: times to the nanosecond,
/// extended attributes as `SCHILY.xattr.*`, hard links, files with large holes as GNU tar has them. The same image and options give the same bytes.
pub fn write_tar(
    image: &Image,
    stream: &mut dyn Write,
    options: &ExtractOptions,
    observer: &dyn Observer,
) -> Result<Report> {
    let mut selection = Selection::new(image, options)?;
    let context = Context::new(image, options, observer);
    let lost = Mutex::default();
    let encoder = Encoder { context: &context, lost: &lost };
    let threads = options.thread_count().min(MAX_WAITING);
    pool::run(
        threads,
        |job: Job, scratch| encoder.work(job, scratch),
        |give| {
            let (reply, replies) = unbounded();
            let mut archive = Archive {
                encoder,
                stream,
                give,
                reply,
                replies,
                early: BTreeMap::new(),
                given: 0,
                written: 0,
                waiting: MAX_WAITING.min(2 * threads) as u64,
                length: 0,
            };
            archive.walk(&mut selection);
            archive.finish();
        },
    );
    context.finish(selection.left_out())
}

/// Something for the archive, still to be read.
enum Entry {
    Whole(Step),
    /// A further name of an entry with the path `first`.
    Link {
        step: Step,
        first: Vec<u8>,
    },
    /// What comes before or behind the data of a file that is too large for one go.
    Bytes(Vec<u8>),
    /// A part of its data.
    Part {
        large: Arc<Large>,
        range: Range<u64>,
        is_hole: bool,
    },
    /// The rest of it, which cannot be read.
    Rest {
        large: Arc<Large>,
        range: Range<u64>,
        error: erofs_image::Error,
    },
}

struct Large {
    step: Step,
    /// Parts of it are zeros, which was said.
    is_bad: AtomicBool,
}

struct Job {
    entries: Vec<Entry>,
    reply: Reply,
}

/// The way back of a group. It goes there also when its thread panics, so that nobody waits for ever.
struct Reply {
    number: u64,
    pieces: Vec<Output>,
    to: Sender<(u64, Vec<Output>)>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        // Nobody waits for it any more if the stream has failed.
        let _ = self.to.send((self.number, std::mem::take(&mut self.pieces)));
    }
}

/// A part of the archive.
enum Output {
    Bytes(Vec<u8>),
    Zeros(u64),
    /// A hard link, if what it links to is in the archive.
    Link {
        bytes: Vec<u8>,
        step: Step,
        first: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
struct Encoder<'a> {
    context: &'a Context<'a>,
    /// Inodes with several names whose first one is not in the archive.
    lost: &'a Mutex<HashSet<u64>>,
}

struct Archive<'a, 'b> {
    encoder: Encoder<'a>,
    stream: &'b mut dyn Write,
    give: &'b mut dyn FnMut(Job),
    reply: Sender<(u64, Vec<Output>)>,
    replies: Receiver<(u64, Vec<Output>)>,
    /// Groups that came before their turn.
    early: BTreeMap<u64, Vec<Output>>,
    given: u64,
    written: u64,
    /// How many groups may be under way.
    waiting: u64,
    length: u64,
}

impl Archive<'_, '_> {
    fn walk(&mut self, selection: &mut Selection<'_>) {
        let context = self.encoder.context;
        let links = Links::<()>::new();
        let (mut group, mut bytes) = (Vec::new(), 0);
        for step in context.steps(selection) {
            let entry = match links.meet(&step, &(), &mut Vec::new()) {
                Meet::Made((), first) => Entry::Link { step, first },
                met => {
                    if matches!(met, Meet::First) {
                        // Whether it got into the archive is known when its names are written.
                        links.settle(step.inode.nid, true, &mut Vec::new());
                    }
                    Entry::Whole(step)
                }
            };
            match entry {
                Entry::Whole(step) if step.inode.is_file() && step.inode.size > CUT => {
                    self.give_group(std::mem::take(&mut group));
                    bytes = 0;
                    self.cut_up(step);
                }
                entry => {
                    if let Entry::Whole(step) = &entry
                        && step.inode.is_file()
                    {
                        bytes += step.inode.size;
                    }
                    group.push(entry);
                    if bytes >= GROUP_BYTES || group.len() >= GROUP {
                        bytes = 0;
                        self.give_group(std::mem::take(&mut group));
                    }
                }
            }
        }
        self.give_group(group);
    }

    fn cut_up(&mut self, step: Step) {
        let inode = step.inode;
        let layout = match self.encoder.begin(&step) {
            Ok((header, layout)) => {
                self.give_group(vec![Entry::Bytes(header)]);
                layout
            }
            Err(error) => {
                self.encoder.lose(&step);
                self.encoder.context.fail(error);
                return;
            }
        };
        self.encoder.context.count(FileType::Regular);
        self.encoder.context.advance(1, 0);
        let large = Arc::new(Large { step, is_bad: AtomicBool::new(false) });
        for run in &layout.runs {
            let mut done = run.start;
            for cut in Cuts::new(self.encoder.context.image, &inode, run.clone()) {
                if self.encoder.context.stopped() {
                    return;
                }
                let large = Arc::clone(&large);
                let entry = match cut {
                    Ok(cut) => {
                        done = cut.range.end;
                        Entry::Part { large, range: cut.range, is_hole: cut.is_hole }
                    }
                    Err(error) => Entry::Rest { large, range: done..run.end, error },
                };
                self.give_group(vec![entry]);
            }
        }
        self.give_group(vec![Entry::Bytes(vec![0; layout.padding()])]);
    }

    fn give_group(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let reply = Reply { number: self.given, pieces: Vec::new(), to: self.reply.clone() };
        (self.give)(Job { entries, reply });
        self.given += 1;
        while self.given - self.written >= self.waiting {
            self.write_next();
        }
    }

    /// Writes the group whose turn it is.
    fn write_next(&mut self) {
        let pieces = loop {
            if let Some(pieces) = self.early.remove(&self.written) {
                break pieces;
            }
            match self.replies.recv() {
                Ok((number, pieces)) => drop(self.early.insert(number, pieces)),
                Err(_) => break Vec::new(),
            }
        };
        self.written += 1;
        for piece in pieces {
            if self.encoder.context.stopped() {
                return;
            }
            if let Err(error) = self.write_piece(piece) {
                self.encoder.context.fail(Error::Stream(error));
            }
        }
    }

    fn write_piece(&mut self, piece: Output) -> std::io::Result<()> {
        match piece {
            Output::Bytes(bytes) => self.write(&bytes),
            Output::Zeros(count) => self.write_zeros(count),
            Output::Link { step, first, .. } if lock(self.encoder.lost).contains(&step.inode.nid) => {
                self.encoder.context.fail(Error::LinkLost { path: step.path, first });
                Ok(())
            }
            Output::Link { bytes, .. } => {
                self.encoder.context.count_link();
                self.encoder.context.advance(1, 0);
                self.write(&bytes)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.stream.write_all(bytes)
    }

    fn write_zeros(&mut self, count: u64) -> std::io::Result<()> {
        let zeros = vec![0; 1 << 16];
        let mut left = count;
        while left > 0 && !self.encoder.context.stopped() {
            let now = left.min(zeros.len() as u64);
            self.write(zeros.get(..usize::try_from(now).unwrap_or_default()).unwrap_or_default())?;
            left -= now;
        }
        Ok(())
    }

    fn finish(&mut self) {
        while self.written < self.given {
            self.write_next();
        }
        if self.encoder.context.stopped() {
            return;
        }
        let end = self.length.saturating_add(2 * BLOCK as u64).next_multiple_of(RECORD);
        let ended = self.write_zeros(end - self.length).and_then(|()| self.stream.flush());
        if let Err(error) = ended {
            self.encoder.context.fail(Error::Stream(error));
        }
    }
}

impl Encoder<'_> {
    fn work(self, job: Job, scratch: &mut Scratch) {
        let Job { entries, mut reply } = job;
        let mut bytes = Vec::new();
        for entry in entries {
            if self.context.stopped() {
                return;
            }
            match entry {
                Entry::Whole(step) => self.encode_whole(&step, scratch, &mut bytes),
                Entry::Link { step, first } => match self.header(&step, Some(&first), None) {
                    Ok(link) => {
                        reply.pieces.push(Output::Bytes(std::mem::take(&mut bytes)));
                        reply.pieces.push(Output::Link { bytes: link, step, first });
                    }
                    Err(error) => self.context.fail(error),
                },
                Entry::Bytes(given) => bytes.extend_from_slice(&given),
                Entry::Part { large, range, is_hole } => {
                    self.encode_part(&large, range, is_hole, scratch, &mut reply.pieces);
                }
                Entry::Rest { large, range, error } => {
                    self.spoil(&large, error);
                    reply.pieces.push(Output::Zeros(range.end - range.start));
                }
            }
        }
        reply.pieces.push(Output::Bytes(bytes));
    }

    /// What comes before the data of a regular file, and where it has data.
    fn begin(self, step: &Step) -> Result<(Vec<u8>, Layout)> {
        let image = self.context.image;
        let layout = Layout::of(image, &step.inode).map_err(Error::image(&step.path))?;
        // Once the header is written so many bytes have to follow, if need be as zeros.
        image.check_zeros(&step.inode, layout.data()).map_err(Error::image(&step.path))?;
        Ok((self.header(step, None, Some(&layout))?, layout))
    }

    fn header(self, step: &Step, first: Option<&[u8]>, layout: Option<&Layout>) -> Result<Vec<u8>> {
        let image = self.context.image;
        let failed = |error| Error::image(&step.path)(error);
        let is_hard_link = first.is_some();
        let xattrs = if self.context.options.xattrs && !is_hard_link {
            image.xattrs(&step.inode).map_err(failed)?
        } else {
            Vec::new()
        };
        let link = match first {
            Some(first) => first.to_vec(),
            None if step.inode.is_symlink() => image.read_link(&step.inode).map_err(failed)?,
            None => Vec::new(),
        };
        let list = layout.map(Layout::list).unwrap_or_default();
        let member = Member {
            name: member_name(&step.path, &step.inode),
            inode: &step.inode,
            link: &link,
            is_hard_link,
            xattrs: &xattrs,
            stored: layout.map_or(0, |layout| layout.data().saturating_add(list.len() as u64)),
            is_sparse: !list.is_empty(),
        };
        Ok([member.encode(), list].concat())
    }

    fn encode_whole(self, step: &Step, scratch: &mut Scratch, bytes: &mut Vec<u8>) {
        if step.inode.file_type() == FileType::Socket {
            self.context.lose("sockets", "an archive has no such entries", &step.path);
            self.lose(step);
            return;
        }
        let start = bytes.len();
        let encoded = if step.inode.is_file() {
            self.encode_file(step, scratch, bytes)
        } else {
            self.header(step, None, None).map(|header| bytes.extend_from_slice(&header))
        };
        match encoded {
            Ok(()) => {
                self.context.count(step.inode.file_type());
                self.context.advance(1, 0);
            }
            Err(error) => {
                bytes.truncate(start);
                self.lose(step);
                self.context.fail(error);
            }
        }
    }

    fn encode_file(self, step: &Step, scratch: &mut Scratch, bytes: &mut Vec<u8>) -> Result<()> {
        let (header, layout) = self.begin(step)?;
        bytes.extend_from_slice(&header);
        for run in &layout.runs {
            self.read(step, run.clone(), scratch, bytes).map_err(Error::image(&step.path))?;
        }
        self.context.advance(0, layout.data());
        bytes.resize(bytes.len().saturating_add(layout.padding()), 0);
        Ok(())
    }

    /// Appends the bytes of a range, which is CUT long at most, to `bytes`.
    fn read(
        self,
        step: &Step,
        range: Range<u64>,
        scratch: &mut Scratch,
        bytes: &mut Vec<u8>,
    ) -> erofs_image::Result<()> {
        self.context.image.for_each_piece(&step.inode, range, scratch, &mut |_, piece| {
            match piece {
                Piece::Data(data) => bytes.extend_from_slice(data),
                Piece::Hole(count) => {
                    let count = usize::try_from(count).unwrap_or_default();
                    bytes.resize(bytes.len().saturating_add(count), 0);
                }
            }
            ControlFlow::Continue(())
        })
    }

    fn lose(self, step: &Step) {
        if step.inode.nlink > 1 {
            lock(self.lost).insert(step.inode.nid);
        }
    }

    fn encode_part(
        self,
        large: &Large,
        range: Range<u64>,
        is_hole: bool,
        scratch: &mut Scratch,
        pieces: &mut Vec<Output>,
    ) {
        if is_hole {
            pieces.push(Output::Zeros(range.end - range.start));
            return;
        }
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        let mut bytes = Vec::with_capacity(length);
        if let Err(error) = self.read(&large.step, range.clone(), scratch, &mut bytes) {
            self.spoil(large, error);
        }
        self.context.advance(0, bytes.len() as u64);
        let missing = (range.end - range.start).saturating_sub(bytes.len() as u64);
        pieces.extend([Output::Bytes(bytes), Output::Zeros(missing)]);
    }

    fn spoil(self, large: &Large, source: erofs_image::Error) {
        if !large.is_bad.swap(true, Ordering::Relaxed) {
            self.context.fail(Error::Zeros { path: large.step.path.clone(), source });
        }
    }
}
