//! The state root that holds the domains of one user.

use super::Domain;
use super::check_private;
use super::create::remove_leaving;
use crate::Error;
use crate::Result;
use crate::dir;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

/// What back-up programs look for: see <https://bford.info/cachedir/>.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory holds verified copies of files from EROFS images, made by pyerofs.\n\
    # All of it can be made again.\n";

/// What is being made (`.new-`) or deleted (`.gone-`); both are hidden from every command.
pub(super) const NEW: &str = ".new-";
/// See [`NEW`].
pub(super) const GONE: &str = ".gone-";

impl Domain {
    /// The state root that is used when nobody names one: `$PYEROFS_STATE`, else
    /// `/var/lib/pyerofs` for root, else `$XDG_CACHE_HOME/pyerofs` or `$HOME/.cache/pyerofs`.
    pub fn default_state_root() -> Result<PathBuf> {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        if let Some(root) = env::var_os("PYEROFS_STATE").filter(|root| !root.is_empty()) {
            let root = PathBuf::from(root);
            return std::path::absolute(&root).map_err(|error| Error::io("find", root, error));
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/pyerofs".into());
        }
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("pyerofs"))
            .ok_or_else(|| {
                let error = io::Error::new(
                    io::ErrorKind::NotFound,
                    "none of PYEROFS_STATE, XDG_CACHE_HOME and HOME is set",
                );
                Error::io("find a place for domains", "pyerofs", error)
            })
    }

    /// Makes the state root (mode 0700) and what lies in it (`domains/`, `CACHEDIR.TAG`) where
    /// missing, checks owner and mode, and returns the path of `domains/`.
    pub fn prepare_state_root(root: &Path) -> Result<PathBuf> {
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|error| Error::io("make", parent, error))?;
        }
        let made = match rustix::fs::mkdir(root, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(Error::io("make", root, errno)),
        };
        let directory = dir::open(CWD, root).map_err(|errno| Error::io("open", root, errno))?;
        check_private(&directory, root)?;
        if made || !dir::exists(&directory, "CACHEDIR.TAG") {
            dir::write_whole(&directory, "", "CACHEDIR.TAG", CACHEDIR_TAG.as_bytes())
                .map_err(|error| Error::io("write", root.join("CACHEDIR.TAG"), error))?;
        }
        let domains = root.join("domains");
        dir::make(&directory, "domains").map_err(|errno| Error::io("make", &domains, errno))?;
        let directory =
            dir::open(&directory, "domains").map_err(|errno| Error::io("open", &domains, errno))?;
        check_private(&directory, &domains)?;
        remove_leavings(&directory);
        Ok(domains)
    }
}

/// Deletes what a killed `create` or `remove` left behind, of which anything may be missing. Both hold
/// the lock while they work, and what has no lock yet is left alone; a failure is the next caller's to
/// meet again.
fn remove_leavings(directory: &OwnedFd) {
    for name in dir::names(directory, ".").unwrap_or_default() {
        if !name.starts_with(NEW.as_bytes()) && !name.starts_with(GONE.as_bytes()) {
            continue;
        }
        let Ok(leaving) = dir::open(directory, name.as_slice()) else { continue };
        // What `create` makes before this it makes before it has the lock.
        if name.starts_with(NEW.as_bytes()) && !dir::exists(&leaving, "objects") {
            continue;
        }
        let Ok(lock) = dir::open_file(&leaving, "lock") else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_leaving(directory, name.as_slice(), &leaving);
        }
    }
}
