//! What can go wrong with a domain, with the values that say where.

use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a caller should treat an [`Error`]: what exit status, what exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller asked for something that makes no sense.
    Usage,
    /// The filesystem or kernel lacks what a domain needs.
    Unsupported,
    /// It could be done and is not: doing it would be unsafe.
    Refused,
    /// Somebody holds the domain's lock.
    Busy,
    /// There is no such domain.
    NotFound,
    /// The domain is there already.
    Exists,
    /// What lies in the domain is not what was put there.
    Corrupt,
    /// The operating system reported an error.
    Io,
}

/// Every error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name can't be a domain's.
    #[error(
        "{name:?} can't name a domain: a letter or digit, then up to 63 of letters, digits, '.', '_' and '-'"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// There is no domain at the path.
    #[error("{}: no such domain", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is something at the path already.
    #[error("{}: exists already", path.display())]
    Exists {
        /// Where it was to be made.
        path: PathBuf,
    },
    /// The directory is not, or is no longer, a domain.
    #[error("{}: not a domain: {reason}", path.display())]
    NotADomain {
        /// The directory.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The directory could be changed or read by others.
    #[error("{}: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A domain can't lie on this kind of filesystem.
    #[error(
        "{}: {kind} is no place for a domain, since its page cache and locks are not this machine's alone: set PYEROFS_STATE to a directory on a local filesystem", path.display()
    )]
    NetworkFilesystem {
        /// The directory.
        path: PathBuf,
        /// The filesystem's name, as mount(8) knows it.
        kind: &'static str,
    },
    /// The filesystem can't do what the store needs.
    #[error("{}: the filesystem can't {feature} ({source}): set PYEROFS_STATE to a directory on another one", path.display())]
    Feature {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        feature: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else holds the lock that was wanted.
    #[error("{}: in use: a mount or another command holds its lock", path.display())]
    Busy {
        /// The domain.
        path: PathBuf,
    },
    /// A blob changed while it was read.
    #[error("the image changed while it was read (blob {blob})")]
    Changed {
        /// The blob's index, 0 for the image itself.
        blob: usize,
    },
    /// A file of the domain holds something that was not written by this program.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The keeper's configuration can't be used.
    #[error("keeper configuration: {0}")]
    Config(String),
    /// The peer broke the keeper's protocol.
    #[error("keeper protocol: {0}")]
    Protocol(&'static str),
    /// The keeper is not there any more.
    #[error("the domain's keeper has ended; nothing new is shared until it runs again")]
    KeeperGone,
    /// The operating system reported an error.
    #[error("{}: can't {doing}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Wraps what the kernel said with what was being done to what.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.as_ref().to_path_buf(), source: source.into() }
    }

    /// The class that decides about exit status and exception.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } | Self::Config(_) => ErrorKind::Usage,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::Exists,
            Self::NotADomain { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Unsafe { .. } => ErrorKind::Refused,
            Self::NetworkFilesystem { .. } | Self::Feature { .. } => ErrorKind::Unsupported,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Changed { .. } | Self::Protocol(_) | Self::KeeperGone | Self::Io { .. } => ErrorKind::Io,
        }
    }

    /// The errno that says it best; what the kernel said where the kernel was asked.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::Name { .. } | Self::Config(_) => Errno::INVAL,
            Self::NotFound { .. } => Errno::NOENT,
            Self::Exists { .. } => Errno::EXIST,
            Self::NotADomain { .. } | Self::Corrupt { .. } => Errno::UCLEAN,
            Self::Unsafe { .. } => Errno::ACCESS,
            Self::NetworkFilesystem { .. } | Self::Feature { .. } => Errno::OPNOTSUPP,
            Self::Busy { .. } => Errno::BUSY,
            Self::Changed { .. } => Errno::STALE,
            Self::Protocol(_) => Errno::PROTO,
            // Not EPIPE, which a program takes for its own output being closed.
            Self::KeeperGone => Errno::CONNRESET,
            Self::Io { source, .. } => return source.raw_os_error().unwrap_or(5),
        };
        errno.raw_os_error()
    }
}
