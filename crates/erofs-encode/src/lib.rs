//! Encoders that fill the physical clusters of EROFS images.
//!
//! A cluster has a size, a multiple of the block size, and is best full. So an [`Encoder`] is not asked to
//! encode some bytes but to fill some room: [`Encoder::fill`] takes as much of the beginning of its input as
//! fits, and says how much that was. It does so in about one compression, whatever the codec.
//!
//! ```text
//! lz4.rs    the library's own filling       zstd/     blocks, the last one cut where the room ends
//! lzma.rs   the library's own filling       deflate/  a little too much, cut at the last symbol that fits
//! ```
#![forbid(unsafe_code)]

mod deflate;
mod error;
mod lz4;
mod lzma;
mod zstd;

pub use error::EncodeError;

/// The largest cluster in bytes.
pub const MAX_CAPACITY: usize = 1 << 20;

/// The most input that a cluster may hold, in bytes: what Linux decodes at once.
pub const MAX_INPUT: usize = 12 << 20;

/// How clusters are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// LZ4 as fast as it goes.
    Lz4,
    /// LZ4 with a thorough search.
    Lz4Hc {
        /// 1 to 12.
        level: i32,
    },
    /// `MicroLZMA`.
    Lzma {
        /// 0 to 9.
        level: u32,
        /// How far back matches reach, in bytes.
        dict_size: u32,
    },
    /// Raw DEFLATE.
    Deflate {
        /// 1 to 12.
        level: i32,
    },
    /// Zstandard.
    Zstd {
        /// 1 to 22.
        level: i32,
        /// Base-2 logarithm of how far back matches reach.
        window_log: u32,
    },
}

/// Fills clusters by one method; keeps the method's tables from call to call.
///
/// One per thread. What it makes depends on the method and on the calls since [`Encoder::restart`] only.
pub struct Encoder(Box<dyn Fill + Send>);

/// What [`Encoder`] asks of a method.
trait Fill {
    /// See [`Encoder::restart`].
    fn restart(&mut self) {}

    /// See [`Encoder::fill`]. There is input, no more than may be looked at, and `out` is empty.
    fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError>;
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder; an error if the method has no such level, window or dictionary.
    pub fn new(method: Method) -> Result<Self, EncodeError> {
        Ok(Self(match method {
            Method::Lz4 => Box::new(lz4::Lz4::fast()),
            Method::Lz4Hc { level } => Box::new(lz4::Lz4::thorough(level)?),
            Method::Lzma { level, dict_size } => Box::new(lzma::Lzma::new(level, dict_size)?),
            Method::Deflate { level } => Box::new(deflate::Deflate::new(level)?),
            Method::Zstd { level, window_log } => Box::new(zstd::Zstd::new(level, window_log)?),
        }))
    }

    /// Forgets what was learnt of the input so far, so that what comes does not depend on what was.
    pub fn restart(&mut self) {
        self.0.restart();
    }

    /// Encodes as much of the beginning of `input` as `capacity` bytes hold, as one stream that stands for
    /// itself, into `out`, whose old content is dropped. Returns how much of the input that is: all of it if
    /// it fits, nothing if `input` is empty.
    ///
    /// The stream's first byte is never 0, so that padding before it can be told from it. No more than
    /// [`MAX_INPUT`] bytes are looked at. `capacity` is 512 to [`MAX_CAPACITY`].
    pub fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
        if !(512..=MAX_CAPACITY).contains(&capacity) {
            return Err(EncodeError::Capacity(capacity));
        }
        out.clear();
        let input = &input[..input.len().min(MAX_INPUT)];
        if input.is_empty() {
            return Ok(0);
        }
        self.0.fill(input, capacity, out)
    }
}
