//! What can go wrong at one entry; the others are compared nevertheless.

use std::io;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

const EIO: i32 = 5;
const ELOOP: i32 = 40;
const ESTALE: i32 = 116;

/// Why an entry could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image said so.
    #[error(transparent)]
    Image(#[from] erofs_image::Error),
    /// The system said so.
    #[error("can't {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory lies too deep to be real.
    #[error("directories lie more than {limit} deep")]
    Depth {
        /// How deep they may lie.
        limit: u64,
    },
    /// A file in a directory is not what it was a moment ago.
    #[error("changed while it was compared")]
    Changed,
    /// A panic, which is a bug.
    #[error("the comparison failed by a fault of its own")]
    Internal,
}

impl Error {
    /// Makes an error of the system's.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, source: source.into() }
    }

    /// The number that a system call would give.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Image(error) => error.errno(),
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(EIO),
            Self::Depth { .. } => ELOOP,
            Self::Changed => ESTALE,
            Self::Internal => EIO,
        }
    }
}
