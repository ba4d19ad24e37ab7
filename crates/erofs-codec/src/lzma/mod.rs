//! `MicroLZMA`: raw LZMA whose first byte, always 0 otherwise, holds the properties inverted.

mod model;
mod range;

use std::hint::select_unpredictable;

use crate::Want;
use crate::copy::{SLACK, exact_match, wild_match};
use crate::error::{DecodeError, Result};
use model::{Contexts, LITERAL, MOST_SETS, Model, Set};
use range::{EVEN, Range};

/// From this state on the last symbol was no literal.
const AFTER_MATCH: usize = 7;

/// The tables of the last stream.
#[derive(Debug)]
pub(crate) struct Lzma {
    model: Model,
    literals: Vec<Set>,
}

impl Default for Lzma {
    fn default() -> Self {
        Self { model: Model::EVEN, literals: vec![[EVEN; LITERAL]; MOST_SETS] }
    }
}

impl Lzma {
    /// Decodes `input` into `output`; no match may reach further back than `dict_size`.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        want: Want,
        dict_size: u32,
    ) -> Result<()> {
        let truncated = DecodeError::Truncated { produced: 0 };
        let contexts = Contexts::new(!*input.first().ok_or(truncated)?).ok_or(DecodeError::Invalid {
            what: "the first byte of MicroLZMA is not lc, lp, pb",
            produced: 0,
        })?;
        let mut range = Range::new(input, 1).ok_or(truncated)?;
        self.model = Model::EVEN;
        self.literals[..contexts.sets].fill([EVEN; LITERAL]);
        let dict_size = usize::try_from(dict_size).unwrap_or(usize::MAX);
        let symbols = Symbols { contexts, dict_size };
        let mut op = 0;
        let result = symbols.decode(self, &mut range, output, &mut op, want);
        let finished = want == Want::Prefix || result.is_err() || range.is_finished();
        if range.is_past_end() {
            return Err(DecodeError::Truncated { produced: op });
        }
        result?;
        if !finished {
            return Err(DecodeError::Long { wanted: output.len() });
        }
        Ok(())
    }
}

/// What does not change within a stream.
struct Symbols {
    contexts: Contexts,
    dict_size: usize,
}

impl Symbols {
    #[inline(never)]
    fn decode(
        &self,
        tables: &mut Lzma,
        outer: &mut Range<'_>,
        output: &mut [u8],
        produced: &mut usize,
        want: Want,
    ) -> Result<()> {
        let Lzma { model, literals } = tables;
        let mut range = *outer;
        let mut op = 0;
        let mut state = 0;
        // Distances of the last four matches, less 1.
        let mut reps = [0_u32; 4];
        let mut previous = 0;
        let result = loop {
            if op >= output.len() {
                break Ok(());
            }
            if range.is_past_end() {
                break Err(DecodeError::Truncated { produced: op });
            }
            let position = op & self.contexts.pb_mask;
            if !range.decide(&mut model.is_match[state][position & 15]) {
                let set = &mut literals[self.contexts.literal(op, previous)];
                previous = if state < AFTER_MATCH {
                    literal(&mut range, set)
                } else {
                    // The distance was good for the match before.
                    let at = op.wrapping_sub(reps[0] as usize).wrapping_sub(1);
                    literal_after_match(&mut range, set, output.get(at).copied().unwrap_or(0))
                };
                state = after_literal(state);
                output[op] = previous;
                op += 1;
                continue;
            }
            let length;
            if !range.decide(&mut model.is_rep[state]) {
                length = model.match_length.read(&mut range, position);
                let distance = model.distance(&mut range, length);
                reps = [distance, reps[0], reps[1], reps[2]];
                state = if state < AFTER_MATCH { 7 } else { 10 };
            } else if !range.decide(&mut model.is_rep0[state]) {
                if range.decide(&mut model.is_rep0_long[state][position & 15]) {
                    length = model.rep_length.read(&mut range, position);
                    state = if state < AFTER_MATCH { 8 } else { 11 };
                } else {
                    length = 1;
                    state = if state < AFTER_MATCH { 9 } else { 11 };
                }
            } else {
                if !range.decide(&mut model.is_rep1[state]) {
                    reps = [reps[1], reps[0], reps[2], reps[3]];
                } else if !range.decide(&mut model.is_rep2[state]) {
                    reps = [reps[2], reps[0], reps[1], reps[3]];
                } else {
                    reps = [reps[3], reps[0], reps[1], reps[2]];
                }
                length = model.rep_length.read(&mut range, position);
                state = if state < AFTER_MATCH { 8 } else { 11 };
            }
            let distance = reps[0] as usize;
            if distance >= op.min(self.dict_size) {
                // The marker of an end that is not given by the length.
                break Err(if reps[0] == u32::MAX {
                    DecodeError::Short { produced: op, wanted: output.len() }
                } else {
                    DecodeError::Distance { produced: op, distance: distance.saturating_add(1) }
                });
            }
            let room = output.len() - op;
            // The distance has been looked at.
            let _ = if length + SLACK <= room {
                wild_match(output, op, distance + 1, length)
            } else {
                exact_match(output, op, distance + 1, length.min(room))
            };
            if length > room {
                op = output.len();
                break match want {
                    Want::Whole => Err(DecodeError::Long { wanted: op }),
                    Want::Prefix => Ok(()),
                };
            }
            op += length;
            previous = output[op - 1];
        };
        *produced = op;
        *outer = range;
        result
    }
}

#[inline(always)]
fn after_literal(state: usize) -> usize {
    match state {
        0..4 => 0,
        4..10 => state - 3,
        _ => state - 6,
    }
}

/// A literal behind another.
#[inline(always)]
fn literal(range: &mut Range<'_>, set: &mut Set) -> u8 {
    let Some(probabilities) = set.first_chunk_mut::<0x100>() else { return 0 };
    range.tree::<8, 0x100>(probabilities) as u8
}

/// A literal behind a match. As long as its bits are those of the byte at the match's distance,
/// which it is not, the probabilities depend on that byte's next bit.
#[inline(always)]
fn literal_after_match(range: &mut Range<'_>, set: &mut Set, matched: u8) -> u8 {
    let mut matched = usize::from(matched) << 1;
    let (mut symbol, mut offset) = (1, 0x100);
    let mut index = offset + (matched & offset) + symbol;
    let mut even = u32::from(set[index]);
    for place in 0..8 {
        // As in a tree, both candidates are made ready.
        let (offset_zero, offset_one) = (offset & !matched, offset & matched);
        matched <<= 1;
        let index_zero = offset_zero + (matched & offset_zero) + (symbol << 1 & 0xff);
        let index_one = offset_one + (matched & offset_one) + (symbol << 1 & 0xff | 1);
        let (if_zero, if_one) = (u32::from(set[index_zero]), u32::from(set[index_one]));
        let (bit, adapted) = range.bit(even);
        set[index] = adapted;
        symbol = symbol << 1 | usize::from(bit);
        if place < 7 {
            even = select_unpredictable(bit, if_one, if_zero);
            index = select_unpredictable(bit, index_one, index_zero);
            offset = select_unpredictable(bit, offset_one, offset_zero);
        }
    }
    symbol as u8
}
