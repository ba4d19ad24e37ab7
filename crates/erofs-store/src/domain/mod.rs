//! A domain's directory: making it, opening it, locking it.

mod create;
mod lock;
mod root;

use crate::Digest;
use crate::Error;
use crate::Facts;
use crate::ImageKey;
use crate::Objects;
use crate::Result;
use crate::dir;
use crate::facts;
use crate::filesystem;
pub use lock::DomainLock;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use serde::Deserialize;
use serde::Serialize;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What `config` says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    v: u32,
    limit: Option<u64>,
}

/// An open domain. Cheap to clone; every clone is the same directory, wherever it is moved.
#[derive(Clone, Debug)]
pub struct Domain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: OwnedFd,
    /// Only for messages: everything goes through the descriptor.
    path: PathBuf,
    boot_id: String,
}

impl AsFd for Domain {
    /// The directory itself, to be handed to another process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.directory.as_fd()
    }
}

impl Domain {
    /// Opens the domain at `path`; owner and mode are checked.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = match dir::open(CWD, path) {
            Err(rustix::io::Errno::NOENT) => return Err(Error::NotFound { path: path.to_path_buf() }),
            other => other.map_err(|errno| Error::io("open", path, errno))?,
        };
        Self::from_parts(directory, path.to_path_buf())
    }

    /// Opens the domain, or makes it; `true` if it was made.
    pub fn open_or_create(path: &Path) -> Result<(Self, bool)> {
        match Self::open(path) {
            Err(Error::NotFound { .. }) => {}
            other => return other.map(|domain| (domain, false)),
        }
        match Self::create(path) {
            Err(Error::Exists { .. }) => Self::open(path).map(|domain| (domain, false)),
            other => other.map(|domain| (domain, true)),
        }
    }

    /// Takes over a descriptor of a domain's directory.
    pub fn from_fd(directory: OwnedFd) -> Result<Self> {
        let path =
            std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory)))
                .unwrap_or_else(|_| "domain".into());
        Self::from_parts(directory, path)
    }

    fn from_parts(directory: OwnedFd, path: PathBuf) -> Result<Self> {
        check_private(&directory, &path)?;
        let kind = filesystem::kind(&directory).map_err(|errno| Error::io("statfs", &path, errno))?;
        if kind.class == filesystem::Class::Network {
            return Err(Error::NetworkFilesystem { path, kind: kind.name });
        }
        for part in ["lock", "secret", "objects", "fresh", "images"] {
            if !dir::exists(&directory, part) {
                return Err(Error::NotADomain { path, reason: format!("it has no {part}") });
            }
        }
        let boot_id = boot_id()?;
        Ok(Self { inner: Arc::new(Inner { directory, path, boot_id }) })
    }

    /// Where the domain was when it was opened; for messages.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The kernel's id of this boot, which names the directory in `fresh/`.
    pub fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }

    /// 32 hexadecimal digits: the `domain_id` for the kernel.
    pub fn secret(&self) -> Result<String> {
        let bytes = dir::read_small(self, "secret", 64).map_err(|error| self.io("read", "secret", error))?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let text = text.trim_end();
        if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(self.corrupt("secret", "it is not 32 hexadecimal digits"));
        }
        Ok(text.to_owned())
    }

    /// `objects/`, opened as a directory: a data-only layer for an overlay.
    pub fn objects_dir(&self) -> Result<OwnedFd> {
        dir::open(self, "objects").map_err(|errno| self.io("open", "objects", errno))
    }

    /// `fresh/BOOT_ID/`, made if missing and opened as a directory: the last data-only layer.
    pub fn fresh_dir(&self) -> Result<OwnedFd> {
        let path = self.fresh_path();
        for made in [path.clone(), format!("{path}/.v")] {
            dir::make(self, &made).map_err(|errno| self.io("make", &made, errno))?;
        }
        dir::open(self, &path).map_err(|errno| self.io("open", &path, errno))
    }

    /// The objects, for reading.
    pub fn objects(&self) -> Objects {
        Objects::new(self.clone())
    }

    /// What is known about an image; empty for one that was never seen.
    pub fn facts(&self, image: &ImageKey) -> Result<Facts> {
        Ok(Facts::from_file(&facts::read(self, image)?))
    }

    /// The size limit in bytes on disk that was set, or `None` for a tenth of what is free.
    pub fn limit(&self) -> Result<Option<u64>> {
        let text = match dir::read_small(self, "config", 4096) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| self.io("read", "config", error))?,
        };
        let config: Config =
            serde_json::from_slice(&text).map_err(|error| self.corrupt("config", &error.to_string()))?;
        Ok(config.limit)
    }

    /// Sets the size limit, or goes back to the default. A keeper that runs learns of it when it is
    /// started next.
    pub fn set_limit(&self, bytes: Option<u64>) -> Result<()> {
        let text = serde_json::to_vec(&Config { v: 1, limit: bytes })
            .map_err(|error| self.corrupt("config", &error.to_string()))?;
        dir::write_whole(self, "", "config", &text).map_err(|error| self.io("write", "config", error))
    }

    /// The limit that holds when the objects take `used` bytes on disk.
    pub(crate) fn effective_limit(&self, used: u64) -> Result<u64> {
        if let Some(limit) = self.limit()? {
            return Ok(limit);
        }
        let free = filesystem::free_bytes(self).map_err(|errno| self.io("statfs", "", errno))?;
        Ok(free.saturating_add(used) / 10)
    }

    /// `fresh/BOOT_ID`.
    pub(crate) fn fresh_path(&self) -> String {
        format!("fresh/{}", self.inner.boot_id)
    }

    /// Where a durable object lies.
    pub(crate) fn durable_path(digest: &Digest) -> String {
        format!("objects/{}", digest.object_path())
    }

    /// Where an object of this boot lies, durable already or not yet.
    pub(crate) fn fresh_object_path(&self, digest: &Digest) -> String {
        format!("fresh/{}/{}", self.inner.boot_id, digest.object_path())
    }

    /// The directory of the links that are named by image and nid.
    pub(crate) fn by_nid_path(&self, image: &ImageKey) -> String {
        format!("fresh/{}/.v/{image}", self.inner.boot_id)
    }

    /// An error with the full path in it.
    pub(crate) fn io(&self, doing: &'static str, path: &str, source: impl Into<io::Error>) -> Error {
        Error::io(doing, self.inner.path.join(path), source)
    }

    /// An error about what lies in the domain.
    pub(crate) fn corrupt(&self, path: &str, reason: &str) -> Error {
        Error::Corrupt { path: self.inner.path.join(path), reason: reason.to_owned() }
    }
}

/// Refuses a directory of somebody else, or one that others can reach.
fn check_private(directory: impl AsFd, path: &Path) -> Result<()> {
    let stat = rustix::fs::fstat(directory).map_err(|errno| Error::io("stat", path, errno))?;
    let unsafe_because = |reason| Err(Error::Unsafe { path: path.to_path_buf(), reason });
    let user = rustix::process::geteuid().as_raw();
    if stat.st_uid != user {
        return unsafe_because(format!(
            "belongs to user {}, not to user {user}: set PYEROFS_STATE to a directory of your own",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o077 != 0 {
        return unsafe_because(format!(
            "others can reach it (mode {:04o}): chmod 700 it, if nobody else has changed what is in it",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

/// The kernel's random id of this boot.
fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = dir::read_small(CWD, PATH, 128).map_err(|error| Error::io("read", PATH, error))?;
    let text = String::from_utf8(text).unwrap_or_default();
    let text = text.trim_end();
    if text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err(Error::Corrupt { path: PATH.into(), reason: "it is no boot id".into() })
    }
}

/// Whether the path is there, as a file of its own and not a symlink.
pub(crate) fn is_file(domain: &Domain, path: &str) -> bool {
    rustix::fs::statat(domain, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
    })
}
