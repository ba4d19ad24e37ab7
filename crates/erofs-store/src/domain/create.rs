//! Making a domain, testing what it needs, deleting it.

use super::Domain;
use super::check_private;
use super::root::GONE;
use super::root::NEW;
use crate::Error;
use crate::Result;
use crate::dir;
use crate::filesystem;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

impl Domain {
    /// Makes a new domain at `path`, whose parent exists, and tests what the store needs of the
    /// filesystem. Fails if there is anything at the path; appears whole or not at all.
    pub fn create(path: &Path) -> Result<Self> {
        let (parent, name) = split(path)?;
        let parent_fd = dir::open(CWD, parent).map_err(|errno| Error::io("open", parent, errno))?;
        let kind = filesystem::kind(&parent_fd).map_err(|errno| Error::io("statfs", parent, errno))?;
        if kind.class == filesystem::Class::Network {
            return Err(Error::NetworkFilesystem { path: path.to_path_buf(), kind: kind.name });
        }
        if dir::exists(&parent_fd, name) {
            return Err(Error::Exists { path: path.to_path_buf() });
        }
        let temporary = dir::unique_name(NEW).map_err(|errno| Error::io("make", path, errno))?;
        dir::make(&parent_fd, &temporary).map_err(|errno| Error::io("make", path, errno))?;
        let made = fill(&parent_fd, &temporary, path).and_then(|_lock| {
            match dir::rename_new(&parent_fd, &temporary, &parent_fd, name) {
                Err(Errno::EXIST) => Err(Error::Exists { path: path.to_path_buf() }),
                other => other.map_err(|errno| Error::io("make", path, errno)),
            }
        });
        if let Err(error) = made {
            // What stays if this fails too is removed when the state root is opened next.
            let _ = dir::remove_tree(&parent_fd, temporary.as_str());
            return Err(error);
        }
        Self::open(path)
    }

    /// Deletes the domain at `path`, under the exclusive lock. It is renamed first, so that nobody
    /// sees half of it, and its lock goes last, so that somebody else can tell what was left.
    pub fn remove(path: &Path) -> Result<()> {
        let (parent, name) = split(path)?;
        let domain = Self::open(path)?;
        let _lock = domain.lock_exclusive()?;
        let parent_fd = dir::open(CWD, parent).map_err(|errno| Error::io("open", parent, errno))?;
        let gone = dir::unique_name(GONE).map_err(|errno| Error::io("delete", path, errno))?;
        dir::rename_new(&parent_fd, name, &parent_fd, &gone)
            .and_then(|()| remove_leaving(&parent_fd, gone.as_str(), &domain))
            .map_err(|errno| Error::io("delete", path, errno))
    }
}

/// Deletes a domain's directory, its lock last: without it nobody could tell whether it is in use.
pub(super) fn remove_leaving(
    parent: &OwnedFd,
    name: impl rustix::path::Arg + Copy,
    directory: impl AsFd,
) -> Result<(), Errno> {
    for part in dir::names(&directory, ".")?.iter().filter(|part| *part != b"lock") {
        dir::remove_tree(&directory, part.as_slice())?;
    }
    dir::remove_tree(parent, name)
}

fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
    let parent =
        path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match (parent, name) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Error::Name { name: path.display().to_string() }),
    }
}

/// Puts everything into a new domain's directory; returns its lock, held.
fn fill(parent: &OwnedFd, temporary: &str, path: &Path) -> Result<OwnedFd> {
    let directory = dir::open(parent, temporary).map_err(|errno| Error::io("open", path, errno))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&directory, "lock", flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Error::io("make", path.join("lock"), errno))?;
    let feature = |feature, result: Result<(), Errno>| match result {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS)) => {
            Err(Error::io("make", path, errno))
        }
        other => {
            other.map_err(|errno| Error::Feature { path: path.to_path_buf(), feature, source: errno.into() })
        }
    };
    feature("lock files", rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive))?;
    feature("keep a directory to its owner", check_mode(&directory))?;
    for part in ["objects", "fresh", "images"] {
        dir::make(&directory, part).map_err(|errno| Error::io("make", path.join(part), errno))?;
    }
    feature("link files", try_links(&directory))?;
    feature("keep user.* attributes", try_xattr(&directory))?;
    feature("make itself durable (syncfs)", rustix::fs::syncfs(&directory))?;

    let mut secret = [0; 16];
    dir::random_bytes(&mut secret)
        .map_err(io::Error::from)
        .and_then(|()| dir::write_whole(&directory, "", "secret", crate::digest::hex(&secret).as_bytes()))
        .map_err(|error| Error::io("write", path.join("secret"), error))?;
    Ok(lock)
}

fn check_mode(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fchmod(directory, Mode::RWXU)?;
    check_private(directory, Path::new("")).map_err(|_| Errno::PERM)
}

/// What publishing does: a file without a name, or with a passing one, gets two names.
fn try_links(directory: &OwnedFd) -> Result<(), Errno> {
    let file = crate::keeper::Temporary::new(directory, "fresh/.probe-")?;
    file.link(directory, "objects/.probe")?;
    let second = rustix::fs::linkat(directory, "objects/.probe", directory, "fresh/.probe", AtFlags::empty());
    let first = rustix::fs::unlinkat(directory, "objects/.probe", AtFlags::empty());
    second?;
    first?;
    rustix::fs::unlinkat(directory, "fresh/.probe", AtFlags::empty())
}

fn try_xattr(directory: &OwnedFd) -> Result<(), Errno> {
    const NAME: &str = "user.pyerofs.probe";
    rustix::fs::fsetxattr(directory, NAME, b"1", XattrFlags::empty())?;
    rustix::fs::fremovexattr(directory, NAME)
}
