//! What can go wrong while an image is extracted.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// How an error is to be treated: the exit status and the exception follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or argument makes no sense.
    Usage,
    /// The image is at fault, or asks for too much, or cannot be read.
    Image,
    /// The destination is at fault.
    Io,
    /// The caller wanted it to stop.
    Cancelled,
}

/// An error of an extraction, with the path that it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something of the image cannot be read.
    #[error("{}: {source}", show(path))]
    Image {
        /// The path in the image, without a slash before it; empty for the root.
        path: Vec<u8>,
        /// What is wrong with it.
        source: erofs_image::Error,
    },
    /// A system call on the destination failed.
    #[error("{}: can't {action}: {source}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What was tried, as a verb: "create", "write".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The stream that a tar goes to failed.
    #[error("can't write: {0}")]
    Stream(#[source] io::Error),
    /// The directory to extract into has something in it already.
    #[error("{}: the directory is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Something is there already where an entry of the image belongs.
    #[error("{}: exists already", path.display())]
    Exists {
        /// The place.
        path: PathBuf,
    },
    /// A directory is where a file of the image belongs; directories are not replaced.
    #[error("{}: a directory is in the way", path.display())]
    DirectoryInTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// What was made is not there any more, and something else is: somebody else changes the destination.
    #[error("{}: something else has taken its place", path.display())]
    Replaced {
        /// The place.
        path: PathBuf,
    },
    /// A further name of a file whose first name could not be extracted.
    #[error("{}: it is the same file as {}, which was not extracted", show(path), show(first))]
    LinkLost {
        /// The further name.
        path: Vec<u8>,
        /// The first one.
        first: Vec<u8>,
    },
    /// A path that was asked for leads through a symbolic link.
    #[error("{}: {} is a symbolic link to {}", show(path), show(link), show(target))]
    ThroughSymlink {
        /// The path.
        path: Vec<u8>,
        /// The link in it.
        link: Vec<u8>,
        /// What the link points to.
        target: Vec<u8>,
    },
    /// Parts of a file in a tar stream could not be read, after the stream had said that they come.
    #[error("{}: what cannot be read of it is zeros in the archive: {source}", show(path))]
    Zeros {
        /// The file.
        path: Vec<u8>,
        /// Why the first such part could not be read.
        source: erofs_image::Error,
    },
    /// An option's value makes no sense.
    #[error("{name}: {reason}")]
    Option {
        /// The option, as the command line calls it.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller set [`crate::ExtractOptions::cancel`].
    #[error("the extraction was cancelled")]
    Cancelled,
}

impl Error {
    /// Wraps a system call's failure; for use with `map_err`.
    pub(crate) fn target<E: Into<io::Error>>(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Target { path: path.into(), action, source: source.into() }
    }

    /// Wraps the reader's failure; for use with `map_err`.
    pub(crate) fn image(path: &[u8]) -> impl FnOnce(erofs_image::Error) -> Self {
        |source| Self::Image { path: path.to_vec(), source }
    }

    /// How the error is to be treated.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Image { .. } | Self::LinkLost { .. } | Self::Zeros { .. } => ErrorKind::Image,
            Self::Target { .. } | Self::Replaced { .. } | Self::Stream(_) => ErrorKind::Io,
            Self::NotEmpty { .. }
            | Self::Exists { .. }
            | Self::DirectoryInTheWay { .. }
            | Self::ThroughSymlink { .. }
            | Self::Option { .. } => ErrorKind::Usage,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The errno that says it best.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Image { source, .. } | Self::Zeros { source, .. } => return source.errno(),
            Self::Target { source, .. } | Self::Stream(source) => {
                return source.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            }
            Self::NotEmpty { .. } => Errno::NOTEMPTY,
            Self::Exists { .. } => Errno::EXIST,
            Self::DirectoryInTheWay { .. } => Errno::ISDIR,
            Self::Replaced { .. } => Errno::STALE,
            Self::LinkLost { .. } => Errno::UCLEAN,
            Self::ThroughSymlink { .. } => Errno::LOOP,
            Self::Option { .. } => Errno::INVAL,
            Self::Cancelled => Errno::CANCELED,
        }
        .raw_os_error()
    }

    /// The path in the image that the error is about, if it is about one.
    pub fn image_path(&self) -> Option<&[u8]> {
        match self {
            Self::Image { path, .. }
            | Self::LinkLost { path, .. }
            | Self::ThroughSymlink { path, .. }
            | Self::Zeros { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The path of the destination that the error is about, if it is about one.
    pub fn target_path(&self) -> Option<&Path> {
        match self {
            Self::Target { path, .. }
            | Self::NotEmpty { path }
            | Self::Exists { path }
            | Self::Replaced { path }
            | Self::DirectoryInTheWay { path } => Some(path),
            _ => None,
        }
    }

    /// Whether nothing further would succeed either: the destination is full or gone, not this file bad.
    pub fn ends_everything(&self) -> bool {
        const OF_THE_DESTINATION: [Errno; 11] = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::ROFS,
            Errno::IO,
            Errno::NOMEM,
            Errno::MFILE,
            Errno::NFILE,
            Errno::STALE,
            Errno::NODEV,
            Errno::NXIO,
            Errno::SHUTDOWN,
        ];
        match self {
            Self::Target { source, .. } => {
                Errno::from_io_error(source).is_some_and(|errno| OF_THE_DESTINATION.contains(&errno))
            }
            Self::Stream(_) | Self::Cancelled => true,
            _ => false,
        }
    }
}

/// A path in the image as people write it.
fn show(path: &[u8]) -> impl std::fmt::Display {
    format!("/{}", Path::new(OsStr::from_bytes(path)).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_ends_everything_and_a_bad_name_does_not() {
        let error = |errno: Errno| Error::target("x", "create")(errno);
        assert!(error(Errno::NOSPC).ends_everything());
        assert!(!error(Errno::NAMETOOLONG).ends_everything());
        assert!(!Error::Exists { path: "x".into() }.ends_everything());
    }
}
