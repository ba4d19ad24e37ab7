//! The kernel's mount and namespace calls that Python's own library lacks, one function each.
//!
//! They take and give descriptors by number, as `os` does: what comes out is the caller's to close, and what goes in
//! stays the caller's (a copy is made for the call). No policy is here: Python writes the sequences.

use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use erofs_sys::{MountAttr, MountFlags, Namespaces};
use pyo3::prelude::*;
use rustix::fs::{AtFlags, CWD};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::errors::Failure;

type Result<T, E = Failure> = std::result::Result<T, E>;

/// A copy of the caller's descriptor that lives as long as the call.
fn borrowed(fd: RawFd) -> Result<OwnedFd> {
    erofs_sys::fd::duplicate(fd).map_err(errno)
}

fn errno(error: rustix::io::Errno) -> Failure {
    std::io::Error::from(error).into()
}

/// `fsopen`: a new context for a filesystem of that name.
#[pyfunction]
pub(crate) fn fsopen(fstype: &str) -> Result<RawFd> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(errno)?;
    Ok(context.into_raw_fd())
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
#[pyfunction]
pub(crate) fn fsconfig_flag(context: RawFd, key: &str) -> Result<()> {
    rustix::mount::fsconfig_set_flag(borrowed(context)?, key).map_err(errno)
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
#[pyfunction]
pub(crate) fn fsconfig_string(context: RawFd, key: &str, value: &[u8]) -> Result<()> {
    rustix::mount::fsconfig_set_string(borrowed(context)?, key, value).map_err(errno)
}

/// `fsconfig(FSCONFIG_SET_FD)`.
#[pyfunction]
pub(crate) fn fsconfig_fd(context: RawFd, key: &str, value: RawFd) -> Result<()> {
    rustix::mount::fsconfig_set_fd(borrowed(context)?, key, borrowed(value)?).map_err(errno)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`: makes the superblock, which may ask a FUSE server of ours.
#[pyfunction]
pub(crate) fn fsconfig_create(py: Python<'_>, context: RawFd) -> Result<()> {
    let context = borrowed(context)?;
    py.detach(|| rustix::mount::fsconfig_create(context)).map_err(errno)
}

/// `fsmount`: a mount of the context's superblock that is attached nowhere.
#[pyfunction]
pub(crate) fn fsmount(context: RawFd, attributes: u32) -> Result<RawFd> {
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    let mount = rustix::mount::fsmount(borrowed(context)?, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
    Ok(mount.map_err(errno)?.into_raw_fd())
}

/// `move_mount`: attaches a detached mount to the directory that `target` is open on.
#[pyfunction]
pub(crate) fn move_mount(mount: RawFd, target: RawFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(borrowed(mount)?, "", borrowed(target)?, "", flags).map_err(errno)
}

/// `open_tree(OPEN_TREE_CLONE)`: a copy of the mount at `path` that is attached nowhere, with the directory at `path`
/// for its root.
#[pyfunction]
pub(crate) fn clone_mount(path: PathBuf) -> Result<RawFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags).map_err(errno)?.into_raw_fd())
}

/// `mount_setattr` on a mount that a descriptor is open on.
#[pyfunction]
pub(crate) fn mount_setattr(mount: RawFd, set: u64, clear: u64) -> Result<()> {
    let attributes = MountAttr {
        set: MountFlags::from_bits_retain(set),
        clear: MountFlags::from_bits_retain(clear),
        ..MountAttr::default()
    };
    erofs_sys::mount_setattr(borrowed(mount)?, c"", AtFlags::EMPTY_PATH, &attributes).map_err(errno)
}

/// Makes every mount below and at `path` private: mounts made later reach no other namespace.
#[pyfunction]
pub(crate) fn make_private(path: PathBuf) -> Result<()> {
    let path = CString::new(path.into_os_string().into_encoded_bytes())
        .map_err(|_| Failure::value("a path holds a NUL byte"))?;
    let attributes = MountAttr { propagation: MS_PRIVATE, ..MountAttr::default() };
    erofs_sys::mount_setattr(CWD, &path, AtFlags::from_bits_retain(AT_RECURSIVE), &attributes).map_err(errno)
}

/// `MS_PRIVATE` as `mount_setattr` takes it.
const MS_PRIVATE: u64 = 1 << 18;

/// `AT_RECURSIVE`, which rustix does not name.
const AT_RECURSIVE: u32 = 0x8000;

/// `umount2`, never through a symlink. `lazy` detaches at once and lets go when nobody uses it any more.
#[pyfunction]
pub(crate) fn unmount(py: Python<'_>, path: PathBuf, lazy: bool) -> Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    py.detach(|| rustix::mount::unmount(path, flags)).map_err(errno)
}

/// `unshare` of the user and mount namespaces. A process with several threads can't have a new user namespace (EINVAL).
#[pyfunction]
#[pyo3(signature = (*, user, mount))]
pub(crate) fn unshare(user: bool, mount: bool) -> Result<()> {
    erofs_sys::unshare(Namespaces { user, mount, ..Namespaces::default() }).map_err(errno)
}

/// `setns` into the namespace that a descriptor of `/proc/PID/ns/NAME` stands for.
#[pyfunction]
pub(crate) fn setns(namespace: RawFd) -> Result<()> {
    erofs_sys::setns(borrowed(namespace)?).map_err(errno)
}

/// Whether this process has `CAP_SYS_ADMIN` in its own user namespace.
#[pyfunction]
pub(crate) fn has_sys_admin() -> Result<bool> {
    let sets = rustix::thread::capabilities(None).map_err(errno)?;
    Ok(sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}
