//! Fills clusters with the contents of a file, or of a part of one.

use erofs_encode::{EncodeError, Encoder, Method};

use super::content::Content;
use crate::compress::Compression;
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
    /// Quick, and finds both repetition and a narrow choice of bytes.
    sampler: Encoder,
    /// The cluster that was filled last.
    encoded: Vec<u8>,
    /// Input that a cluster holds, going by those before.
    usual: usize,
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
            let mut filler = Filler::new(how, self.block_size, self.is_dense)?;
            filler.restart();
            *made = Some(filler);
        }
        made.as_mut().ok_or(Error::Cancelled)
    }
}

/// What becomes of the end of the input, if it would not fill a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It gets a cluster too.
    Cluster,
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
        Ok(Self {
            encoder: compression.encoder()?,
            sampler: Encoder::new(Method::Zstd { level: 1, window_log: 15 }).map_err(failed)?,
            encoded: Vec::new(),
            usual: 0,
            cluster: if is_dense { compression.dense_cluster(block_size) } else { compression.cluster }
                as usize,
            block_size: block_size as usize,
            is_dense,
        })
    }

    /// Forgets what was learnt, so that what comes does not depend on what was.
    pub(super) fn restart(&mut self) {
        self.encoder.restart();
        self.usual = 2 * self.cluster;
    }

    /// Fills clusters with `input`, which starts at a block of its file, and puts them into `content`. The
    /// places of `extents` count from the start of `content`.
    pub(super) fn fill(
        &mut self,
        input: &[u8],
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
            if end == End::Left && rest.len() < self.usual {
                break;
            }
            let read = self.encoder.fill(rest, self.cluster, &mut self.encoded).map_err(failed)?;
            let is_end = read == rest.len();
            let encoded = self.encoded.len();
            let unit = if self.is_dense { 1 } else { self.block_size };
            let (room, plain) = (encoded.next_multiple_of(unit), read.next_multiple_of(unit));
            // Where it saves nothing it is still better than a plain end that would have to be cut in two.
            let is_cut = || read <= self.block_size && plain_end(at, input, self.block_size) < input.len();
            let saves = room < plain || (is_end && !self.is_dense && room == plain && is_cut());
            if is_end && end == End::Left {
                break;
            }
            if let (true, End::LeftIfSmall(most)) = (is_end, end) {
                let is_coded = encoded < read;
                if read.min(encoded) <= most {
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
                let stop = at + rest.len().min(skipped);
                // Older kernels copy no more than a block at a time from clusters that are not encoded.
                while at < stop {
                    let end =
                        if self.is_dense { stop } else { plain_end(at, input, self.block_size).min(stop) };
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
    /// byte positions of the file, which has `size` bytes.
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
        Ok(after < before - before / 32)
    }
}

fn leading_zeros(bytes: &[u8]) -> usize {
    const STEP: usize = 64;
    let steps = bytes.chunks_exact(STEP).take_while(|step| **step == [0; STEP]).count();
    let rest = &bytes[steps * STEP..];
    steps * STEP + rest.iter().take(STEP).take_while(|byte| **byte == 0).count()
}

/// Where a plain extent of `input` ends that starts at `at`.
///
/// Linux takes the last extent of a file for one that goes on to the end of the file's last block, and refuses
/// a plain one of more than a block. So one that would cross into that block ends before it.
fn plain_end(at: usize, input: &[u8], block_size: usize) -> usize {
    let end = input.len().min(at + block_size);
    if end.next_multiple_of(block_size) - at > block_size && end == input.len() {
        return at.next_multiple_of(block_size);
    }
    end
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: EncodeError) -> Error {
    Error::Option { name: "compress", reason: error.to_string() }
}
