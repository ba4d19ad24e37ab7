//! What can go wrong with a connection as a whole.

use rustix::io::Errno;

/// An error of a connection or of the event loop. Errors of single requests are answers ([`crate::Reply::error`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel's protocol is too old, or from a future that is not compatible.
    #[error("the kernel speaks FUSE {major}.{minor}, but this needs 7.28 or a later 7.x (Linux 4.20)")]
    Version {
        /// The kernel's major version.
        major: u32,
        /// The kernel's minor version.
        minor: u32,
    },
    /// The descriptor is not, or not yet, a mounted filesystem's.
    #[error("the descriptor of /dev/fuse belongs to no mount")]
    NotMounted,
    /// A first request that is no handshake; the descriptor was probably taken over without its negotiated values.
    #[error("the kernel's first request was number {opcode}, not INIT")]
    NoHandshake {
        /// The request's number.
        opcode: u32,
    },
    /// In-flight requests cannot be asked for again: before Linux 6.9, or not negotiated.
    #[error("the connection cannot resend requests (FUSE_HAS_RESEND, Linux 6.9)")]
    NoResend,
    /// A system call failed.
    #[error("{call}: {errno}")]
    System {
        /// Its name.
        call: &'static str,
        /// What it said.
        errno: Errno,
    },
}

impl Error {
    /// The errno that says most nearly the same.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Version { .. } | Self::NoHandshake { .. } => Errno::PROTO,
            Self::NotMounted => Errno::NOTCONN,
            Self::NoResend => Errno::OPNOTSUPP,
            Self::System { errno, .. } => *errno,
        }
    }
}

/// For `map_err`: which call an errno came from.
pub(crate) fn system(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { call, errno }
}
