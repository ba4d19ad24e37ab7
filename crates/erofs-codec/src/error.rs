//! Why a block could not be decoded.

/// What is wrong with compressed bytes.
///
/// It knows nothing of where in an image the bytes lie; the caller adds that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A block that should begin with padding and go on with data is all zeros.
    #[error("nothing but zeros where compressed data should be")]
    OnlyPadding,
    /// The compressed bytes end in the middle of the stream.
    #[error("the compressed data ends in the middle, with {produced} bytes decoded")]
    Truncated {
        /// Bytes of output until then.
        produced: usize,
    },
    /// The stream has a proper end, but before the output is full.
    #[error("the compressed data decodes to {produced} bytes, not to {wanted}")]
    Short {
        /// Bytes that the stream holds.
        produced: usize,
        /// Bytes that were asked for.
        wanted: usize,
    },
    /// The stream goes on where it should have ended.
    #[error("the compressed data decodes to more than {wanted} bytes")]
    Long {
        /// Bytes that were asked for.
        wanted: usize,
    },
    /// A match reaches back to before the first byte, or further than the codec's window.
    #[error("a match at byte {produced} of the output reaches back {distance} bytes")]
    Distance {
        /// Bytes of output before the match.
        produced: usize,
        /// How far back it reaches.
        distance: usize,
    },
    /// The stream claims a window larger than the image declares for its codec.
    #[error("the compressed data needs a window of {claimed} bytes; the image declares {allowed}")]
    Window {
        /// What the stream claims.
        claimed: u64,
        /// What the image declares.
        allowed: u64,
    },
    /// The stream breaks a rule of its format.
    #[error("{what}, with {produced} bytes decoded")]
    Invalid {
        /// Which rule.
        what: &'static str,
        /// Bytes of output until then.
        produced: usize,
    },
    /// The stream's own checksum does not fit what it decodes to.
    #[error("the checksum in the compressed data does not fit what it decodes to")]
    Checksum,
}

/// A result of this crate.
pub(crate) type Result<T> = std::result::Result<T, DecodeError>;
