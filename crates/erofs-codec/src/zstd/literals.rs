//! The literals of a Zstandard block.

use super::MAX_BLOCK;
use super::huffman::Huffman;
use crate::copy::SLACK;

/// The code and the literals of the last block.
#[derive(Debug)]
pub(super) struct Literals {
    huffman: Huffman,
    /// A block of the frame has brought a code with it.
    coded: bool,
    /// With room behind the longest block, so that copies may read on.
    bytes: Vec<u8>,
}

impl Default for Literals {
    fn default() -> Self {
        Self { huffman: Huffman::default(), coded: false, bytes: vec![0; MAX_BLOCK + SLACK] }
    }
}

impl Literals {
    /// Forgets the last frame.
    pub(super) fn reset(&mut self) {
        self.coded = false;
    }

    /// The literals that were read last, and what is behind them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the literals at the beginning of a block; gives their number and the number of bytes
    /// that they take there. `None` if they are none.
    pub(super) fn read(&mut self, input: &[u8]) -> Option<(usize, usize)> {
        let first = *input.first()?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        let word = |bytes: usize| {
            let mut word = [0; 8];
            word[..bytes].copy_from_slice(input.get(..bytes)?);
            Some(u64::from_le_bytes(word))
        };
        if kind < 2 {
            let (count, header) = match format {
                1 => (word(2)? >> 4, 2),
                3 => (word(3)? >> 4, 3),
                _ => (u64::from(first) >> 3, 1),
            };
            let count = usize::try_from(count).ok()?;
            let target = self.bytes.get_mut(..count).filter(|_| count <= MAX_BLOCK)?;
            let input = input.get(header..)?;
            if kind == 0 {
                target.copy_from_slice(input.get(..count)?);
                return Some((count, header + count));
            }
            target.fill(*input.first()?);
            return Some((count, header + 1));
        }
        // Two numbers of equal width behind the first four bits.
        let (header, width) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(format)];
        let numbers = word(header)? >> 4;
        let count = (numbers & ((1 << width) - 1)) as usize;
        let size = (numbers >> width) as usize;
        let mut streams = input.get(header..)?.get(..size)?;
        let target = self.bytes.get_mut(..count).filter(|_| count <= MAX_BLOCK)?;
        if kind == 2 {
            streams = streams.get(self.huffman.read(streams)?..)?;
            self.coded = true;
        } else if !self.coded {
            return None;
        }
        if format == 0 {
            self.huffman.decode_one(streams, target)?;
        } else {
            self.huffman.decode_four(streams, target)?;
        }
        Some((count, header + size))
    }
}
