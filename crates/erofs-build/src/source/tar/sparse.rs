//! Maps of sparse members: which parts of the file are in the archive.

use super::Problem;
use super::header::{BLOCK, field, number};
use super::pax::decimal;

/// A part of a file: where it starts, how long it is, and where its bytes are, counted from the member's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) at: u64,
}

/// A map under construction; its numbers are checked when it is done.
#[derive(Debug, Default)]
pub(super) struct Map {
    numbers: Vec<u64>,
}

impl Map {
    /// Of offsets and lengths in turn.
    pub(super) fn new(numbers: Vec<u64>) -> Self {
        Self { numbers }
    }

    /// How many numbers it has.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The map of pax format 0.1: numbers with commas between.
    pub(super) fn from_text(text: &[u8]) -> Result<Self, Problem> {
        let numbers = text.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>();
        numbers.map(Self::new).ok_or_else(bad)
    }

    /// Adds the entries of an old GNU header, or of a block that continues it; whether another block follows.
    pub(super) fn add_old(&mut self, block: &[u8; BLOCK], is_header: bool) -> Result<bool, Problem> {
        let (first, count, more) = if is_header { (386, 4, 482) } else { (0, 21, 504) };
        for nth in 0..count {
            let entry = field(block, first + nth * 24, 24);
            let (offset, length) = entry.split_at(12);
            if offset.first().is_none_or(|byte| *byte == 0) {
                break;
            }
            for part in [offset, length] {
                self.numbers.push(u64::try_from(number(part, "sparse map")?).map_err(|_| bad())?);
            }
        }
        Ok(field(block, more, 1) != b"\0")
    }

    /// The parts, ascending and not empty, if they are those of a file of `size` bytes of which `stored` are
    /// in the archive.
    pub(super) fn parts(&self, size: u64, stored: u64) -> Result<Box<[Part]>, Problem> {
        let (pairs, rest) = self.numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(bad());
        }
        let mut parts = Vec::new();
        let (mut end, mut at) = (0u64, 0u64);
        for &[start, length] in pairs {
            let next = start.checked_add(length).filter(|next| start >= end && *next <= size);
            end = next.ok_or_else(bad)?;
            if length > 0 {
                parts.push(Part { start, length, at });
                at = at.checked_add(length).ok_or_else(bad)?;
            }
        }
        if at != stored {
            return Err(Problem::Text(format!(
                "the map of a sparse member has {at} bytes of data, the archive {stored}"
            )));
        }
        Ok(parts.into())
    }
}

fn bad() -> Problem {
    Problem::new("the map of a sparse member makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_ascend_and_agree_with_the_sizes() {
        let parts = |numbers: &[u64], size, stored| Map::new(numbers.to_vec()).parts(size, stored);
        let good = parts(&[0, 10, 100, 5, 200, 0], 200, 15).unwrap();
        assert_eq!(*good, [Part { start: 0, length: 10, at: 0 }, Part { start: 100, length: 5, at: 10 }]);
        for bad in [&[10, 5, 0, 5][..], &[0, 10, 5, 10], &[0], &[190, 20], &[u64::MAX, 2]] {
            assert!(parts(bad, 200, 20).is_err(), "{bad:?}");
        }
        assert!(parts(&[0, 10], 200, 11).is_err());
        assert!(Map::from_text(b"1,2,x").is_err());
    }
}
