//! A domain's store of verified objects, and the keeper that alone writes it.
//!
//! A *domain* is a directory inside which files of equal content, from any image, are served from
//! one inode and so from one page cache:
//!
//! ```text
//! NAME/                    mode 0700, owned by the user whose domain it is
//!   lock                   shared for every mount, exclusive for gc, rm and verify's repairs
//!   config                 {"v":1,"limit":BYTES|null}
//!   secret                 128 random bits in hex: the kernel's domain_id, never NAME
//!   objects/ab/cdef..      whole and durable, always; named by the SHA-256 of the bytes
//!   fresh/BOOT_ID/ab/cdef..    the same inodes, usable before they are durable
//!   fresh/BOOT_ID/.v/KEY/NID   the same inodes again, named by image and nid
//!   images/KEY             the facts: (nid, digest) pairs whose bytes were hashed here
//!   images/KEY.json        what image that was and when it was last mounted
//! ```
//!
//! A claim is never enough. The facts of an image say which bytes **of this image at this nid** were
//! hashed by the keeper; nothing else ties a file to an object. The keeper is handed descriptors
//! and byte ranges by a server that parses hostile images, so it parses none itself, believes no
//! length and no digest, and writes nowhere but inside its domain.
#![forbid(unsafe_code)]

mod digest;
mod dir;
mod domain;
mod error;
mod evict;
mod facts;
mod filesystem;
mod gc;
mod hash;
mod images;
pub mod keeper;
mod key;
mod name;
mod objects;
mod report;
mod stat;
mod verify;

pub use digest::Digest;
pub use domain::Domain;
pub use domain::DomainLock;
pub use error::Error;
pub use error::ErrorKind;
pub use error::Result;
pub use facts::Facts;
pub use keeper::client::ImageMount;
pub use keeper::client::KeeperClient;
pub use keeper::client::Outcome;
pub use keeper::client::Piece;
pub use keeper::client::Publish;
pub use keeper::client::SourceId;
pub use key::ImageKey;
pub use name::DomainName;
pub use objects::Objects;
pub use report::GcOptions;
pub use report::GcReport;
pub use report::ImageStat;
pub use report::StatReport;
pub use report::VerifyProblem;
pub use report::VerifyReport;
