//! Fills clusters with the contents of a file, or of a part of one.

use erofs_encode::{EncodeError, Encoder, Method};
use erofs_format::compression::Algorithm;

use super::content::Content;
use crate::compress::{Compression, CompressionAlgorithm};
use crate::error::{Error, Result};
use crate::zmap::Extent;

/// Input that is stored as it is after a cluster that saved nothing, before the next is tried; twice as much
/// each time, up to [`MOST_SKIPPED`].
const LEAST_SKIPPED: usize = 64 << 10;
const MOST_SKIPPED: usize = 1 << 20;

/// So many zeros are a hole, where clusters are of any length.
const HOLE: usize = 64 << 10;

/// Samples that are taken of a file before it is compressed, and their bytes.
const SAMPLES: u64 = 3;
pub(super) const SAMPLE: usize = 8 << 10;

/// What a thread keeps to fill clusters.
#[derive(Debug)]
pub(super) struct Filler {
    encoder: Encoder,
    /// Quick, and finds what the encoder finds: repetition, and mostly a narrow choice of bytes too.
    sampler: Encoder,
    /// The cluster that was filled last.
    encoded: Vec<u8>,
    /// Input that a cluster holds, going by those before.
    usual: usize,
    /// What is taken for that at first.
    first_usual: usize,
    cluster: usize,
    block_size: usize,
    /// Clusters are of any length and lie close together.
    is_dense: bool,
}

/// A thread's fillers, one for each way to compress, made when they are first asked for.
#[derive(Debug)]
pub(super) struct Fillers<'a> {
    ways: &'a [Compression],
    made: Vec<Option<Filler>>,
    block_size: u32,
    is_dense: bool,
}

impl<'a> Fillers<'a> {
    pub(super) fn new(ways: &'a [Compression], block_size: u32, is_dense: bool) -> Self {
        Self { ways, made: ways.iter().map(|_| None).collect(), block_size, is_dense }
    }

    /// See [`Filler::restart`].
    pub(super) fn restart(&mut self) {
        self.made.iter_mut().flatten().for_each(Filler::restart);
    }

    /// That of the way of this number.
    pub(super) fn get(&mut self, number: usize) -> Result<&mut Filler> {
        let (Some(how), Some(made)) = (self.ways.get(number), self.made.get_mut(number)) else {
            return Err(Error::Cancelled);
        };
        if made.is_none() {
            *made = Some(Filler::new(how, self.block_size, self.is_dense)?);
        }
        made.as_mut().ok_or(Error::Cancelled)
    }
}

/// What becomes of the end of the input, if it would not fill a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It gets a cluster too.
    Cluster,
    /// Less than a block of it may be left. Every extent then has a block or more, and whatever byte of a file
    /// the first one starts at, no two start in the same block.
    Section,
    /// It is left.
    Left,
    /// It is left if it takes at most so many bytes, encoded or not.
    LeftIfSmall(usize),
}

/// The end of the input that was left, from some byte on.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) from: usize,
    /// Its encoded bytes, if `LeftIfSmall` found it small: as they are if that is smaller.
    pub(super) small: Option<(Vec<u8>, bool)>,
}

impl Filler {
    pub(super) fn new(compression: &Compression, block_size: u32, is_dense: bool) -> Result<Self> {
        let cluster = if is_dense { compression.dense_cluster(block_size) } else { compression.cluster };
        let cluster = cluster as usize;
        let quick = match compression.algorithm() {
            Algorithm::Lz4 => Method::Lz4,
            _ => Method::Zstd { level: 1, window_log: 15 },
        };
        // Taking too much costs nothing: such a file is compressed with others. Taking too little costs a
        // compression that is thrown away.
        let first_usual = match compression.algorithm {
            CompressionAlgorithm::Lz4 => 2 * cluster,
            CompressionAlgorithm::Lz4Hc => 2 * cluster + cluster / 2,
            CompressionAlgorithm::Deflate | CompressionAlgorithm::Zstd => 3 * cluster,
            CompressionAlgorithm::Lzma => 4 * cluster,
        };
        Ok(Self {
            encoder: compression.encoder()?,
            sampler: Encoder::new(quick).map_err(failed)?,
            encoded: Vec::new(),
            usual: first_usual,
            first_usual,
            cluster,
            block_size: block_size as usize,
            is_dense,
        })
    }

    /// Forgets what was learnt, so that what comes does not depend on what was.
    pub(super) fn restart(&mut self) {
        self.encoder.restart();
        self.sampler.restart();
        self.usual = self.first_usual;
    }

    /// Whether a last section of so many bytes is surely left as a whole, if ends are left.
    pub(super) fn leaves(&self, length: usize) -> bool {
        length < self.first_usual && !self.is_dense
    }

    /// Fills clusters with `input` and puts them into `content`. The places of `extents` count from the start of
    /// `content`.
    ///
    /// `offset` says how far in a block of its file the input starts; without it, it may start anywhere, and is
    /// to be filled in the same way wherever it does.
    pub(super) fn fill(
        &mut self,
        input: &[u8],
        offset: Option<usize>,
        end: End,
        content: &mut Content<'_>,
        extents: &mut Vec<Extent>,
    ) -> Result<Rest> {
        let mut at = 0;
        let mut skipped = 0;
        while at < input.len() {
            let rest = &input[at..];
            let zeros = if self.is_dense { leading_zeros(rest) } else { 0 };
            // fsck.erofs 1.9.4 extracts a compressed file that ends with a hole without its end.
            let zeros = if zeros == rest.len() { zeros.saturating_sub(HOLE) } else { zeros };
            if zeros >= HOLE {
                extents.push(Self::extent(zeros, false, content, 0));
                at += zeros;
                continue;
            }
            // An end that is likely to fill no cluster is not worth the attempt.
            if end == End::Left && rest.len() < self.usual
                || end == End::Section && rest.len() < self.block_size
            {
                break;
            }
            let read = self.encoder.fill(rest, self.cluster, &mut self.encoded).map_err(failed)?;
            let is_end = read == rest.len();
            let encoded = self.encoded.len();
            let unit = if self.is_dense { 1 } else { self.block_size };
            let (room, plain) = (encoded.next_multiple_of(unit), read.next_multiple_of(unit));
            // Where it saves nothing it is still better than a plain end that would have to be cut in two.
            let plain_end = |at| plain_end(at, input, self.block_size, offset);
            let is_cut = || read <= self.block_size && plain_end(at) < input.len();
            let saves = room < plain || (is_end && !self.is_dense && room == plain && is_cut());
            if is_end && end == End::Left {
                break;
            }
            if let (true, End::LeftIfSmall(most)) = (is_end, end) {
                // So is a plain end beside the inode, if it lies in two blocks of the file.
                let is_coded = encoded < read || is_cut();
                if (if is_coded { encoded } else { read }) <= most {
                    let bytes = if is_coded { self.encoded.clone() } else { rest.to_vec() };
                    return Ok(Rest { from: at, small: Some((bytes, is_coded)) });
                }
            }
            if saves {
                // Encoded data ends with its cluster; zeros before it are passed over.
                content.zeros(room - encoded);
                content.put(&self.encoded);
                extents.push(Self::extent(read, true, content, room));
                self.usual = self.usual.midpoint(read);
                at += read;
                skipped = 0;
            } else {
                skipped = (2 * skipped).clamp(LEAST_SKIPPED, MOST_SKIPPED);
                let mut stop = at + rest.len().min(skipped);
                if !self.is_dense && matches!(end, End::Section | End::Left) {
                    // What is no whole block is left. Nobody knows where a plain end that may lie anywhere would
                    // have to be cut, so there is none.
                    let is_plain_end = end == End::Left && offset.is_none() && stop == input.len();
                    let whole = (stop - at - usize::from(is_plain_end)) / self.block_size;
                    stop = at + whole * self.block_size;
                    if whole == 0 {
                        break;
                    }
                }
                // Older kernels copy no more than a block at a time from clusters that are not encoded.
                while at < stop {
                    let end = if self.is_dense { stop } else { plain_end(at).min(stop) };
                    let part = &input[at..end];
                    let room = part.len().next_multiple_of(unit);
                    content.put(part);
                    content.zeros(room - part.len());
                    extents.push(Self::extent(part.len(), false, content, room));
                    at = end;
                }
            }
        }
        Ok(Rest { from: at, small: None })
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> usize {
        self.cluster
    }

    /// How a section of a file that starts at `at`, the last one or not, has to be filled, so that what becomes
    /// of it depends on as little else as it can.
    pub(super) fn section(&self, end: End, is_last: bool, at: usize) -> (End, Option<usize>) {
        match end {
            // Extents may be of any length.
            _ if self.is_dense => (if is_last { end } else { End::Cluster }, Some(0)),
            _ if !is_last => (End::Section, None),
            End::Left => (End::Left, None),
            _ => (end, Some(at % self.block_size)),
        }
    }

    /// The extent of `llen` bytes whose cluster was put last.
    fn extent(llen: usize, is_coded: bool, content: &Content<'_>, room: usize) -> Extent {
        Extent {
            llen: llen as u64,
            is_coded,
            at: content.bytes() - room as u64,
            plen: u32::try_from(room).unwrap_or(u32::MAX),
            is_partial: false,
        }
    }

    /// Whether a file is likely to become smaller, going by samples from all over it. They are asked for at
    /// byte positions of the file, which has `size` bytes. They also tell how much a cluster is likely to hold.
    pub(super) fn is_worth_it(
        &mut self,
        size: u64,
        mut read: impl FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<bool> {
        let mut sample = vec![0; SAMPLE];
        let (mut before, mut after) = (0, 0);
        for nth in 0..SAMPLES {
            read(&mut sample, (size - SAMPLE as u64) / (SAMPLES - 1) * nth)?;
            before += self.sampler.fill(&sample, 2 * SAMPLE, &mut self.encoded).map_err(failed)?;
            after += self.encoded.len();
        }
        let is_worth_it = after < before - before / 32;
        if is_worth_it {
            self.usual = self.cluster.saturating_mul(before) / after.max(1);
        }
        Ok(is_worth_it)
    }
}

fn leading_zeros(bytes: &[u8]) -> usize {
    const STEP: usize = 64;
    let steps = bytes.chunks_exact(STEP).take_while(|step| **step == [0; STEP]).count();
    let rest = &bytes[steps * STEP..];
    steps * STEP + rest.iter().take(STEP).take_while(|byte| **byte == 0).count()
}

/// Where a plain extent of `input` ends that starts at `at`; `offset` is that of the input in a block of the file.
///
/// Linux takes the last extent of a file for one that goes on to the end of the file's last block, and refuses
/// a plain one of more than a block. So one that would cross into that block ends before it.
fn plain_end(at: usize, input: &[u8], block_size: usize, offset: Option<usize>) -> usize {
    let end = input.len().min(at + block_size);
    let Some(offset) = offset.filter(|_| end == input.len()) else { return end };
    let (place, place_end) = (offset + at, offset + end);
    if place_end.next_multiple_of(block_size) - place > block_size {
        return place.next_multiple_of(block_size) - offset;
    }
    end
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: EncodeError) -> Error {
    Error::Option { name: "compress", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::CompressionAlgorithm;
    use crate::random::Numbers;

    const BLOCK: usize = 4096;

    /// Words and noise in turn, the last of which has `end` bytes.
    fn input(seed: u64, end: usize) -> Vec<u8> {
        let mut numbers = Numbers::new(seed);
        let mut bytes = Vec::new();
        for nth in 0..4 {
            let length = if nth == 3 { end } else { usize::try_from(numbers.next() % 40_000).unwrap() };
            let until = bytes.len() + length;
            let is_text = numbers.next().is_multiple_of(2);
            while bytes.len() < until {
                let number = numbers.next();
                if is_text {
                    bytes.extend_from_slice(format!("word {} ", number % 50).as_bytes());
                } else {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
            bytes.truncate(until);
        }
        bytes
    }

    /// Linux wants every cluster to start in a block of the file of its own, and a plain one at the end of a file
    /// to lie in one block.
    #[test]
    fn clusters_are_cut_as_linux_wants_them_wherever_a_section_starts() {
        let (buffers, _writing) = super::super::writer::new();
        let how = Compression { cluster: 8192, ..Compression::new(CompressionAlgorithm::Lz4) };
        let mut filler = Filler::new(&how, 4096, false).unwrap();
        for seed in 0..400 {
            let input = input(seed, usize::try_from(seed * 37 % 9000).unwrap());
            for end in [End::Cluster, End::Section, End::Left, End::LeftIfSmall(3000)] {
                let at = usize::try_from(seed * 1001).unwrap();
                let (end, offset) = filler.section(end, end != End::Section, at);
                let mut content = Content::new(&buffers, BLOCK);
                let mut extents = Vec::new();
                filler.restart();
                let rest = filler.fill(&input, offset, end, &mut content, &mut extents).unwrap();
                let starts = if let Some(offset) = offset { offset..=offset } else { 0..=BLOCK - 1 };
                for start in starts.step_by(97) {
                    let mut la = start;
                    let mut pieces: Vec<_> = extents.iter().map(|one| (one.llen, one.is_coded)).collect();
                    pieces.extend(
                        rest.small
                            .as_ref()
                            .map(|(_, is_coded)| ((input.len() - rest.from) as u64, *is_coded)),
                    );
                    let is_whole = rest.from == input.len() || rest.small.is_some();
                    for (nth, (llen, is_coded)) in pieces.iter().enumerate() {
                        let piece_end = la + usize::try_from(*llen).unwrap();
                        let is_end = nth + 1 == pieces.len() && is_whole && end != End::Section;
                        assert!(is_end || la / BLOCK < piece_end / BLOCK, "{seed} {end:?} {start}: {nth}");
                        assert!(*is_coded || piece_end - la <= BLOCK);
                        if is_end && !is_coded {
                            assert_eq!(la / BLOCK, (piece_end - 1) / BLOCK, "{seed} {end:?} {start}");
                        }
                        la = piece_end;
                    }
                    if rest.small.is_none() {
                        assert_eq!(la - start, rest.from, "{seed} {end:?}");
                    }
                }
            }
        }
    }
}
