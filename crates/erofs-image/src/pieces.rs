//! Reading a whole file in order, piece by piece.

use std::ops::{ControlFlow, Range};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::inode::Inode;

/// Bytes of a piece, where the data does not lie together anyway. It stays in a core's own cache
/// between being decoded and being used.
const PIECE: u64 = 256 << 10;

/// A part of a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// These bytes.
    Data(&'a [u8]),
    /// This many zeros that take no space in the image.
    Hole(u64),
}

/// Room that reading needs, kept from one file to the next: what is decoded into, what is read
/// ahead, the decoders' own tables. One for each thread that reads; it belongs to no image.
#[derive(Debug, Default)]
pub struct Scratch {
    output: Vec<u8>,
}

impl Scratch {
    /// Room that nothing has been read into.
    pub fn new() -> Self {
        Self::default()
    }
}

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
        visit: &mut dyn FnMut(u64, Piece<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let end = range.end.min(inode.size);
        let mut at = range.start;
        while at < end {
            let extent = self.map(inode, at)?;
            let left = extent.len.min(end - at);
            let (piece, len) = match extent.place {
                crate::Place::Hole => (Piece::Hole(left), left),
                _ => {
                    let len = left.min(PIECE);
                    scratch.output.resize(usize::try_from(len).unwrap_or_default(), 0);
                    let count = self.read(inode, at, &mut scratch.output)?;
                    (Piece::Data(scratch.output.get(..count).unwrap_or_default()), count as u64)
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
}
