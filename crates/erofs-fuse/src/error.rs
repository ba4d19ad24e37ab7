//! What the server process can end with, or answer over its control socket.

use std::io;

/// Why a server could not start, or could not do what a control message asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration or a control message is not what the protocol says.
    #[error("{0}")]
    Usage(String),
    /// The image was refused.
    #[error("{path}: {source}")]
    Image {
        /// The image's path, for the message only.
        path: String,
        /// What is wrong with it.
        source: erofs_image::Error,
    },
    /// The domain or its keeper refused.
    #[error(transparent)]
    Domain(#[from] erofs_store::Error),
    /// A connection to the kernel could not be served.
    #[error("FUSE: {0}")]
    Fuse(#[from] fuse_dev::Error),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error that came back.
        source: io::Error,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error number that a caller should see.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Usage(_) => rustix::io::Errno::INVAL.raw_os_error(),
            Self::Image { source, .. } => source.errno(),
            Self::Domain(source) => source.errno(),
            Self::Fuse(source) => source.errno().raw_os_error(),
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()),
        }
    }

    /// Wraps an error of the operating system with what was being done.
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}
