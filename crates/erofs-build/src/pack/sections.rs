//! Compresses what was read, section by section if equal ones are to be stored once.

use std::collections::HashMap;
use std::ops::Range;

use super::clusters::End;
use super::content::Content;
use super::cuts::cuts;
use super::known::{Key, Known};
use super::supply::Supply;
use crate::error::Result;
use crate::zmap::Extent;

/// The longest last section that may be taken from the packed inode as a whole.
const MOST_WHOLE: usize = 1 << 20;

/// A part of a file that is compressed by itself.
#[derive(Debug)]
pub(super) struct Piece {
    /// The digest of the section, if there is one.
    pub(super) key: Option<Key>,
    /// Its extents, and its bytes, both counting from the start of the job's content; nothing if the section is
    /// known.
    pub(super) extents: Vec<Extent>,
    pub(super) bytes: Range<u64>,
    /// What the section left lies beside the inode.
    pub(super) is_inline: bool,
    /// The bytes are those of an earlier image.
    pub(super) is_taken: bool,
}

/// What follows the pieces of a file, as a place in what the job made.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Nothing,
    Fragment(Fragment),
    Inline { tail: Range<usize>, llen: u64, is_coded: bool },
}

/// A fragment; `bytes` are not there if it is known.
#[derive(Debug, Clone)]
pub(super) struct Fragment {
    pub(super) key: Option<Key>,
    pub(super) llen: u64,
    pub(super) bytes: Range<usize>,
}

/// What a job makes of compressed files.
#[derive(Debug)]
pub(super) struct Sections<'a> {
    known: Option<&'a Known>,
    /// What this job made that may not be known yet, but will be when the next file is committed: sections with
    /// the bytes that their extents hold, unless their end has to be made for each file, and fragments.
    made: HashMap<Key, Option<u32>>,
    /// What the files have beside their inodes, and in the packed inode.
    pub(super) tails: Vec<u8>,
    pub(super) fragments: Vec<u8>,
}

/// A compressed file, or a part of one.
#[derive(Debug)]
pub(super) struct Compressed {
    pub(super) pieces: Vec<Piece>,
    /// The last section as a fragment. If there is one like it, it is taken in place of the section's piece and
    /// of the ending.
    pub(super) whole: Option<Whole>,
    pub(super) ending: Ending,
}

/// A section that may be a fragment as a whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) fragment: Fragment,
    /// The pieces before the section's.
    pub(super) before: usize,
}

impl<'a> Sections<'a> {
    pub(super) fn new(known: Option<&'a Known>) -> Self {
        Self { known, made: HashMap::new(), tails: Vec::new(), fragments: Vec::new() }
    }

    /// Compresses `raw`, which starts at a block of its file, in the way of number `how`. Its end is treated as
    /// `end` says.
    pub(super) fn compress(
        &mut self,
        raw: &[u8],
        how: usize,
        end: End,
        supply: &mut Supply<'_, '_>,
        content: &mut Content<'_>,
    ) -> Result<Compressed> {
        let Some(known) = self.known else {
            let before = content.bytes();
            let mut extents = Vec::new();
            let (rest, is_taken) = supply.fill(raw, 0..raw.len(), (end, Some(0)), content, &mut extents)?;
            let is_inline = rest.small.is_some();
            let ending = self.ending(raw.get(rest.from..).unwrap_or_default(), rest.small, false);
            let piece = Piece { key: None, extents, bytes: before..content.bytes(), is_inline, is_taken };
            let pieces = if piece.extents.is_empty() { Vec::new() } else { vec![piece] };
            return Ok(Compressed { pieces, whole: None, ending });
        };
        let mut pieces = Vec::new();
        let mut at = 0;
        for cut in cuts(raw, supply.filler.cluster()) {
            let is_last = cut == raw.len();
            let section = raw.get(at..cut).unwrap_or_default();
            let mut whole = None;
            if is_last && end == End::Left && section.len() <= MOST_WHOLE {
                let key = known.fragment_key(section);
                let fragment = Fragment { key: Some(key), llen: section.len() as u64, bytes: 0..0 };
                whole = Some(Whole { fragment, before: pieces.len() });
                if self.has_fragment(known, key) {
                    return Ok(Compressed { pieces, whole, ending: Ending::Nothing });
                }
                // Most files are small: nothing of them has to be hashed again to know what becomes of them.
                if supply.filler.leaves(section.len()) {
                    let ending = self.fragment(section, Some(key), true);
                    return Ok(Compressed { pieces, whole, ending });
                }
            }
            let (end, offset) = supply.filler.section(end, is_last, at);
            let key = known.section_key(section, how, offset, end);
            let covered = self.covered(known, key);
            let start = content.bytes();
            let mut piece = Piece {
                key: Some(key),
                extents: Vec::new(),
                bytes: start..start,
                is_inline: false,
                is_taken: false,
            };
            let mut small = None;
            if let Some(covered) = covered {
                at += covered as usize;
            } else {
                // What becomes of a section depends on nothing but the section.
                supply.filler.restart();
                let (rest, is_taken) =
                    supply.fill(raw, at..cut, (end, offset), content, &mut piece.extents)?;
                piece.is_taken = is_taken;
                piece.bytes.end = content.bytes();
                piece.is_inline = rest.small.is_some();
                small = rest.small;
                at += rest.from;
                // A commit that finds the whole section in the packed inode drops what was made here.
                if whole.is_none() {
                    let covered = u32::try_from(rest.from).ok().filter(|_| !piece.is_inline);
                    self.made.insert(key, covered);
                }
            }
            if covered.is_some_and(|covered| covered > 0) || !piece.extents.is_empty() {
                pieces.push(piece);
            }
            if is_last {
                let is_sure = whole.is_none() || at == cut - section.len();
                let ending = self.ending(raw.get(at..).unwrap_or_default(), small, is_sure);
                return Ok(Compressed { pieces, whole, ending });
            }
        }
        Ok(Compressed { pieces, whole: None, ending: Ending::Nothing })
    }

    /// Takes `raw`, a whole file, for a fragment.
    pub(super) fn as_fragment(&mut self, raw: &[u8]) -> Compressed {
        let key = self.known.map(|known| known.fragment_key(raw));
        Compressed { pieces: Vec::new(), whole: None, ending: self.fragment(raw, key, true) }
    }

    /// How much of a known section is in its extents, unless its end has to be made for each file.
    fn covered(&self, known: &Known, key: Key) -> Option<u32> {
        self.made.get(&key).copied().unwrap_or_else(|| {
            known.section(key).filter(|section| !section.is_inline).map(|section| section.covered)
        })
    }

    fn has_fragment(&self, known: &Known, key: Key) -> bool {
        self.made.contains_key(&key) || known.fragment(key).is_some()
    }

    /// Where the end of a file goes that was left. `is_sure`: if it is a fragment, it will surely be one.
    fn ending(&mut self, left: &[u8], small: Option<(Vec<u8>, bool)>, is_sure: bool) -> Ending {
        let llen = left.len() as u64;
        if let Some((bytes, is_coded)) = small {
            let start = self.tails.len();
            self.tails.extend_from_slice(&bytes);
            return Ending::Inline { tail: start..self.tails.len(), llen, is_coded };
        }
        if left.is_empty() {
            return Ending::Nothing;
        }
        let key = self.known.map(|known| known.fragment_key(left));
        self.fragment(left, key, is_sure)
    }

    /// What was left, as a fragment.
    fn fragment(&mut self, left: &[u8], key: Option<Key>, is_sure: bool) -> Ending {
        let llen = left.len() as u64;
        let start = self.fragments.len();
        if !self.known.zip(key).is_some_and(|(known, key)| self.has_fragment(known, key)) {
            self.fragments.extend_from_slice(left);
        }
        self.made.extend(key.filter(|_| is_sure).map(|key| (key, None)));
        Ending::Fragment(Fragment { key, llen, bytes: start..self.fragments.len() })
    }
}
