//! The only unsafe code of pyerofs: system calls that no safe library offers.
//!
//! What rustix already has as a safe call is taken from there by whoever needs it: `fsopen`, `fsconfig_*`, `fsmount`,
//! `move_mount`, `open_tree` and `mount` in `rustix::mount`; `set_dumpable_behavior`, `set_parent_process_death_signal`
//! in `rustix::process`; `set_no_new_privs`, `set_capabilities` in `rustix::thread`; `ioctl_ficlone` and `fadvise` in
//! `rustix::fs`. One file here per topic, a SAFETY sentence per unsafe block, no other crate of the workspace is known.
#![allow(unsafe_code)]

pub mod cache;
pub mod clone;
pub mod fd;
pub mod fuse;
pub mod heap;
pub mod map;
pub mod mount;
pub mod namespace;
pub mod signal;
pub mod verity;

pub use cache::{CacheStat, cachestat, pread_dontcache};
pub use clone::clone_range;
pub use mount::{MountAttr, MountFlags, mount_setattr};
pub use namespace::{Namespaces, setns, unshare};
pub use verity::{Measurement, VerityHash, fsverity_enable, fsverity_measure};

/// The error of the libc call just made by this thread.
fn last_errno() -> rustix::io::Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error)
}
