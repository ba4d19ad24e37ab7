//! What can go wrong while an image is built.

use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::{Feature, KernelVersion};
use crate::tree::{NodeId, Tree};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// How an error is to be treated: the exit status and the exception follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or argument makes no sense.
    Usage,
    /// The format, or the kernel asked for, can't hold what the tree has.
    Unsupported,
    /// The source is at fault: it changed, loops, or has names that no directory may hold.
    Source,
    /// Reading or writing failed.
    Io,
    /// The caller wanted the build to stop.
    Cancelled,
}

/// An error of a build, with the path or value that it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on `path` failed.
    #[error("{}: can't {action}: {source}", path.display())]
    Io {
        /// Where, as the user wrote it or below the source.
        path: PathBuf,
        /// What was tried, as a verb: "open", "read".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file or directory was changed while the image was built.
    #[error("{}: {what} while the image was built", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was seen to change.
        what: &'static str,
    },
    /// A directory contains itself (by a bind mount).
    #[error("{}: this directory is inside itself, it is also {}", path.display(), ancestor.display())]
    Loop {
        /// The directory.
        path: PathBuf,
        /// The same directory further up.
        ancestor: PathBuf,
    },
    /// A name that no directory may hold.
    #[error("{}: not a name for a directory entry ({reason})", path.display())]
    Name {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two entries of one directory have the same name.
    #[error("{}: two entries have this name", path.display())]
    Duplicate {
        /// The entry.
        path: PathBuf,
    },
    /// A source has entries below something that a source under it says is no directory.
    #[error("{}: is no directory, but {} lies over it and has entries", path.display(), over.display())]
    NotADirectory {
        /// The file.
        path: PathBuf,
        /// What lies over it.
        over: PathBuf,
    },
    /// An archive can't be understood, or is not whole.
    #[error("{}: at byte {at} of the archive: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// About where, in bytes from its (uncompressed) start.
        at: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An image that is a source, or the base, can't be read.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file, or the image.
        path: PathBuf,
        /// What its reader says.
        source: erofs_image::Error,
    },
    /// A hard link leads to nothing.
    #[error("{}: hard link to {}, which the source does not have", path.display(), target.escape_ascii())]
    LinkTarget {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: Vec<u8>,
    },
    /// A symlink that leads nowhere that a path can name.
    #[error("{}: not a target for a symlink ({reason})", path.display())]
    Symlink {
        /// The symlink.
        path: PathBuf,
        /// What is wrong with its target.
        reason: &'static str,
    },
    /// A file of a type that EROFS does not know.
    #[error("{}: file type {:#o} can't be stored", path.display(), mode & 0o170_000)]
    FileType {
        /// The file.
        path: PathBuf,
        /// Its `st_mode`.
        mode: u32,
    },
    /// An xattr that EROFS can't hold.
    #[error("{}: xattr {}: {reason}", path.display(), name.escape_ascii())]
    Xattr {
        /// The file.
        path: PathBuf,
        /// The xattr's full name.
        name: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An owner that no 32-bit id stands for after mapping.
    #[error("{}: {what} {id} is out of range after mapping", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// "uid" or "gid".
        what: &'static str,
        /// The id that the options lead to.
        id: i64,
    },
    /// The tree or the options need more than the target kernel has.
    #[error("{feature} need Linux {needs}, the target is {target}: {remedy}", needs = feature.since(), remedy = feature.remedy())]
    Kernel {
        /// What is needed.
        feature: Feature,
        /// The kernel asked for.
        target: KernelVersion,
    },
    /// An option's value makes no sense.
    #[error("{name}: {reason}")]
    Option {
        /// The option, as the command line calls it.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The output exists and may not be replaced.
    #[error("{}: exists already (force replaces it)", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output exists and is no regular file.
    #[error("{}: exists and is not a regular file", path.display())]
    NotAFile {
        /// The output.
        path: PathBuf,
    },
    /// Something does not fit the format: too many or too large.
    #[error("{}: {what} {found} is more than EROFS holds ({limit})", path.display())]
    TooLarge {
        /// The file, or the source as a whole.
        path: PathBuf,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A sparse file whose map of chunks would have to be so coarse that it is stored as zeros for the most part.
    #[error("{}: too sparse: {zeros} bytes of zeros would be stored with {data} bytes of data (--exclude leaves it out)", path.display())]
    TooSparse {
        /// The file.
        path: PathBuf,
        /// Bytes of data that it has.
        data: u64,
        /// Bytes of holes that would be stored.
        zeros: u64,
    },
    /// The caller set [`crate::BuildOptions::cancel`].
    #[error("the build was cancelled")]
    Cancelled,
}

impl Error {
    /// Wraps a system call's failure; for use with `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(path: &Path, action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source: source.into() }
    }

    /// A node of a source that is not there, which no tree has.
    pub(crate) fn no_such_source(tree: &Tree, id: NodeId) -> Self {
        Self::Changed { path: tree.path_of(id), what: "lost its source" }
    }

    /// How the error is to be treated.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Image { source, .. } => match source.kind() {
                erofs_image::ErrorKind::Io => ErrorKind::Io,
                erofs_image::ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Source,
            },
            Self::Changed { .. }
            | Self::Loop { .. }
            | Self::Name { .. }
            | Self::Duplicate { .. }
            | Self::NotADirectory { .. }
            | Self::Archive { .. }
            | Self::LinkTarget { .. }
            | Self::Symlink { .. } => ErrorKind::Source,
            Self::FileType { .. }
            | Self::Xattr { .. }
            | Self::Kernel { .. }
            | Self::TooLarge { .. }
            | Self::TooSparse { .. } => ErrorKind::Unsupported,
            Self::Owner { .. } | Self::Option { .. } | Self::Exists { .. } | Self::NotAFile { .. } => {
                ErrorKind::Usage
            }
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The errno that says it best.
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            Self::Io { source, .. } => return source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            Self::Image { source, .. } => return source.errno(),
            Self::Changed { .. } => Errno::STALE,
            Self::Loop { .. } => Errno::LOOP,
            Self::LinkTarget { .. } => Errno::NOENT,
            Self::Archive { .. } | Self::Name { .. } | Self::Symlink { .. } | Self::Option { .. } => {
                Errno::INVAL
            }
            Self::NotADirectory { .. } => Errno::NOTDIR,
            Self::Duplicate { .. } | Self::Exists { .. } | Self::NotAFile { .. } => Errno::EXIST,
            Self::FileType { .. } | Self::Xattr { .. } | Self::Kernel { .. } => Errno::OPNOTSUPP,
            Self::Owner { .. } => Errno::OVERFLOW,
            Self::TooLarge { .. } | Self::TooSparse { .. } => Errno::FBIG,
            Self::Cancelled => Errno::CANCELED,
        }
        .raw_os_error()
    }

    /// The path that the error is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::Changed { path, .. }
            | Self::Loop { path, .. }
            | Self::Name { path, .. }
            | Self::Duplicate { path }
            | Self::NotADirectory { path, .. }
            | Self::Archive { path, .. }
            | Self::Image { path, .. }
            | Self::LinkTarget { path, .. }
            | Self::Symlink { path, .. }
            | Self::FileType { path, .. }
            | Self::Xattr { path, .. }
            | Self::Owner { path, .. }
            | Self::Exists { path }
            | Self::NotAFile { path }
            | Self::TooLarge { path, .. }
            | Self::TooSparse { path, .. } => Some(path),
            Self::Kernel { .. } | Self::Option { .. } | Self::Cancelled => None,
        }
    }
}
