//! Reading a whole file in order, piece by piece.

use std::ops::{ControlFlow, Range};

use crate::data::{Place, check_file};
use crate::encoded::{Encoded, Work};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::inode::{DataStart, Inode};
use crate::room::SMALL;
use crate::scratch::Scratch;
use crate::zmap::{ZExtent, ZFormat, ZPlace};

/// Bytes of a piece, where the data does not lie together anyway. It stays in a core's own cache
/// between being decoded and being used.
const PIECE: u64 = SMALL as u64;

/// A part of a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many zeros that take no space in the image.
    Hole(u64),
}

/// Who takes the pieces.
type Visit<'a> = dyn FnMut(u64, Piece<'_>) -> ControlFlow<()> + 'a;

impl Image {
    /// Hands the bytes of `range` of a regular file to `visit`, in order and without gaps, until
    /// it breaks. With each piece comes its byte position in the file. `range` is cut at the
    /// file's end. This is the way to read a whole file: nothing is decoded twice, bytes of a
    /// source that lends them are not copied, and a piece of data has at most 12 MiB where they do
    /// not lie in memory already.
    ///
    /// An error ends it: the pieces before have been handed over, and a later call may go on
    /// behind the place of the error.
    pub fn for_each_piece(
        &self,
        inode: &Inode,
        range: Range<u64>,
        scratch: &mut Scratch,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        check_file(inode)?;
        let range = range.start..range.end.min(inode.size);
        if range.is_empty() {
            return Ok(());
        }
        let done = if inode.data == DataStart::Compressed {
            self.encoded_pieces(inode, range, scratch, visit)
        } else {
            self.flat_pieces(inode, range, scratch, visit)
        };
        done.map_err(|error| error.of_inode(inode.nid))
    }

    fn flat_pieces(
        &self,
        inode: &Inode,
        range: Range<u64>,
        scratch: &mut Scratch,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let extent = self.map(inode, at)?;
            let left = extent.len.min(range.end - at);
            let lent = match extent.place {
                Place::Raw { blob, offset } => usize::try_from(left)
                    .ok()
                    .and_then(|len| self.blob(blob).and_then(|source| source.slice(offset, len))),
                _ => None,
            };
            let (piece, len) = match (extent.place, lent) {
                (Place::Hole, _) => (Piece::Hole(left), left),
                (_, Some(bytes)) => (Piece::Data(bytes), left),
                _ => {
                    let len = self.run_to_hole(inode, at, left, range.end)?;
                    let output = scratch.room(usize::try_from(len).unwrap_or_default());
                    let count = self.read_data(inode, at, output)?;
                    (Piece::Data(output.get(..count).unwrap_or_default()), count as u64)
                }
            };
            if len == 0 {
                return Err(Error::WrongType { nid: inode.nid });
            }
            if visit(at, piece).is_break() {
                return Ok(());
            }
            at += len;
        }
        Ok(())
    }

    /// Bytes to read at once from `at` on, where a run of `first` bytes begins: runs may be short, so further
    /// ones come along, up to a hole.
    fn run_to_hole(&self, inode: &Inode, at: u64, first: u64, end: u64) -> Result<u64> {
        let most = (end - at).min(PIECE);
        let mut len = first.min(most);
        while len > 0 && len < most {
            let next = self.map(inode, at + len)?;
            if next.place == Place::Hole || next.len == 0 {
                break;
            }
            len = len.saturating_add(next.len).min(most);
        }
        Ok(len)
    }

    fn encoded_pieces(
        &self,
        inode: &Inode,
        range: Range<u64>,
        scratch: &mut Scratch,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut encoded = Encoded::new(self, inode)?;
        let mut work = Work::new(self, range.end - range.start, 1);
        let Scratch { tools, output } = scratch;
        let mut batch = Batch { start: range.start, len: 0, output };
        let mut at = range.start;
        while at < range.end {
            let found = encoded.extent(at).and_then(|extent| step(&encoded, &extent, at, range.end));
            let (is_hole, len) = match found {
                Ok(found) => found,
                Err(error) => {
                    // What was read before it is fine.
                    let _ = batch.hand_over(visit);
                    return Err(error);
                }
            };
            if (is_hole || batch.is_full(len)) && batch.hand_over(visit).is_break() {
                return Ok(());
            }
            if is_hole {
                if visit(at, Piece::Hole(len)).is_break() {
                    return Ok(());
                }
                batch.start = at + len;
            } else if len > SMALL as u64 {
                let room = self.clusters().room();
                let taken = room.take(needed(&encoded.extent(at)?, len));
                let count = usize::try_from(len).unwrap_or_default();
                let mut bytes = room.scratch(count);
                let output = bytes.get_mut(..count).unwrap_or_default();
                tools.has_room = true;
                let filled = encoded.fill(tools, &mut work, at, output, range.end - at);
                tools.has_room = false;
                filled?;
                let flow = visit(at, Piece::Data(output));
                room.keep_scratch(bytes);
                drop(taken);
                if flow.is_break() {
                    return Ok(());
                }
                batch.start = at + len;
            } else if let Err(error) = encoded.fill(tools, &mut work, at, batch.room(len), range.end - at) {
                let _ = batch.hand_over(visit);
                return Err(error);
            } else {
                batch.len += len;
            }
            at += len;
        }
        let _ = batch.hand_over(visit);
        Ok(())
    }
}

/// How many bytes from `at` on to read at once, and whether they are a hole.
fn step(encoded: &Encoded<'_>, extent: &ZExtent, at: u64, end: u64) -> Result<(bool, u64)> {
    // The extent holds `at`.
    let rest = (extent.la + extent.llen).min(end) - at;
    Ok(match extent.place {
        ZPlace::Hole => (true, rest),
        // What is not decoded at once would be decoded again.
        ZPlace::Pcluster { format: ZFormat::Coded(_), .. } => (false, rest),
        ZPlace::Fragment { offset } => {
            let position = offset.saturating_add(at - extent.la);
            match encoded.in_packed(position, rest)? {
                (true, len) => (true, len),
                (false, len) => (false, len.min(PIECE)),
            }
        }
        ZPlace::Pcluster { .. } => (false, rest.min(PIECE)),
    })
}

/// Room for `len` bytes of an extent, for the cluster, and for all that it decodes to if that is
/// more: then it goes by way of the cache.
fn needed(extent: &ZExtent, len: u64) -> usize {
    let ZPlace::Pcluster { plen, .. } = extent.place else { return 0 };
    let decoded = if extent.llen == len { 0 } else { extent.llen };
    usize::try_from(len.saturating_add(u64::from(plen)).saturating_add(decoded)).unwrap_or(usize::MAX)
}

/// Bytes that lie together in the file and have not been handed over.
struct Batch<'a> {
    start: u64,
    len: u64,
    output: &'a mut Vec<u8>,
}

impl Batch<'_> {
    fn is_full(&self, more: u64) -> bool {
        self.len != 0 && self.len + more > PIECE
    }

    /// Room for `more` bytes behind those that are there. Together they are a piece at most.
    fn room(&mut self, more: u64) -> &mut [u8] {
        let start = usize::try_from(self.len).unwrap_or(usize::MAX);
        let end = usize::try_from(self.len + more).unwrap_or(usize::MAX);
        if self.output.len() < end {
            self.output.resize(end, 0);
        }
        self.output.get_mut(start..end).unwrap_or_default()
    }

    fn hand_over(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let bytes = usize::try_from(self.len).ok().and_then(|len| self.output.get(..len));
        let start = self.start;
        self.start += self.len;
        self.len = 0;
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => visit(start, Piece::Data(bytes)),
            None => ControlFlow::Continue(()),
        }
    }
}
