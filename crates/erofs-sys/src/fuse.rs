//! The ioctls of /dev/fuse.

use rustix::io;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `FUSE_DEV_IOC_MAGIC`.
const MAGIC: u8 = 229;
const CLONE: Opcode = opcode::read::<u32>(MAGIC, 0);
const BACKING_OPEN: Opcode = opcode::write::<BackingMap>(MAGIC, 1);
const BACKING_CLOSE: Opcode = opcode::write::<u32>(MAGIC, 2);

/// `struct fuse_backing_map`.
#[repr(C)]
#[derive(Debug, Default)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// `FUSE_DEV_IOC_BACKING_OPEN`, which gives the new id as its own result.
struct BackingOpen(BackingMap);

// SAFETY: the opcode takes a pointer to a `fuse_backing_map`, which the kernel only reads; `as_ptr` gives one that lives
// as long as `self`; the result is a number and no pointer is read after the call.
unsafe impl Ioctl for BackingOpen {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        BACKING_OPEN
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> io::Result<u32> {
        u32::try_from(out).map_err(|_| io::Errno::OVERFLOW)
    }
}

/// Opens another descriptor of the connection that `device` belongs to.
///
/// A request is answered through the descriptor it was read from. A request read from a clone that nobody holds any more
/// ends in ECONNABORTED, so whoever wants to outlive a server must hold its clones too.
pub fn clone_device(device: impl AsFd) -> io::Result<OwnedFd> {
    let clone = rustix::fs::open(
        "/dev/fuse",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let raw = u32::try_from(device.as_fd().as_raw_fd()).map_err(|_| io::Errno::BADF)?;
    // SAFETY: FUSE_DEV_IOC_CLONE reads one u32, a descriptor number that `device` keeps open during the call.
    unsafe { ioctl(&clone, Setter::<CLONE, u32>::new(raw))? };
    Ok(clone)
}

/// Registers `file` for passthrough on the connection of `device` and gives the id for an OPEN reply.
///
/// EPERM without `CAP_SYS_ADMIN` in the initial user namespace, ELOOP where `file` lies on a stacked filesystem and the
/// connection's `max_stack_depth` does not allow that.
pub fn backing_open(device: impl AsFd, file: impl AsFd) -> io::Result<u32> {
    let map = BackingMap { fd: file.as_fd().as_raw_fd(), ..BackingMap::default() };
    // SAFETY: `BackingOpen` describes this ioctl of /dev/fuse; both descriptors are borrowed for the call. On another
    // kind of file the opcode is unknown (ENOTTY).
    unsafe { ioctl(device, BackingOpen(map)) }
}

/// Gives a backing id back. Files that are open through it are not affected.
pub fn backing_close(device: impl AsFd, id: u32) -> io::Result<()> {
    // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one u32.
    unsafe { ioctl(device, Setter::<BACKING_CLOSE, u32>::new(id)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_are_the_kernels() {
        assert_eq!(size_of::<BackingMap>(), 16);
        assert_eq!(CLONE, 0x8004_e500);
        assert_eq!(BACKING_OPEN, 0x4010_e501);
        assert_eq!(BACKING_CLOSE, 0x4004_e502);
    }

    #[test]
    fn a_file_that_is_not_fuse_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(backing_open(&file, &file).unwrap_err(), io::Errno::NOTTY);
        assert_eq!(backing_close(&file, 1).unwrap_err(), io::Errno::NOTTY);
        if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_ok() {
            assert_eq!(clone_device(&file).unwrap_err(), io::Errno::INVAL);
        }
    }
}
