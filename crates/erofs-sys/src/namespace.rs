//! Namespaces of the calling thread.

use rustix::io;
use rustix::thread::{UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::os::fd::AsFd;

/// Which namespaces [`unshare`] makes anew.
///
/// There is no way to ask for a descriptor table of one's own here: that is the one thing that makes unshare unsafe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per namespace; they combine freely")]
pub struct Namespaces {
    /// `CLONE_NEWUSER`.
    pub user: bool,
    /// `CLONE_NEWNS`.
    pub mount: bool,
    /// `CLONE_NEWPID`: takes effect for children only.
    pub pid: bool,
    /// `CLONE_NEWNET`.
    pub net: bool,
    /// `CLONE_NEWIPC`.
    pub ipc: bool,
    /// `CLONE_NEWUTS`.
    pub uts: bool,
    /// `CLONE_NEWCGROUP`.
    pub cgroup: bool,
}

impl Namespaces {
    /// A user namespace together with a mount namespace that it owns: what a mount without root needs.
    pub const USER_AND_MOUNT: Self =
        Self { user: true, mount: true, pid: false, net: false, ipc: false, uts: false, cgroup: false };

    fn flags(self) -> UnshareFlags {
        [
            (self.user, UnshareFlags::NEWUSER),
            (self.mount, UnshareFlags::NEWNS),
            (self.pid, UnshareFlags::NEWPID),
            (self.net, UnshareFlags::NEWNET),
            (self.ipc, UnshareFlags::NEWIPC),
            (self.uts, UnshareFlags::NEWUTS),
            (self.cgroup, UnshareFlags::NEWCGROUP),
        ]
        .into_iter()
        .filter_map(|(wanted, flag)| wanted.then_some(flag))
        .collect()
    }
}

/// Moves the calling thread into new namespaces.
///
/// The kernel says EINVAL to a process with several threads that asks for a user namespace, EPERM where user namespaces
/// are restricted, ENOSPC where `user.max_user_namespaces` is used up.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: only CLONE_FILES endangers other threads' descriptors, and `Namespaces` cannot ask for it.
    unsafe { unshare_unsafe(namespaces.flags()) }
}

/// Moves the calling thread into the namespace that `namespace` (an open `/proc/PID/ns/NAME`) stands for.
///
/// EINVAL for a user namespace if the process has several threads.
pub fn setns(namespace: impl AsFd) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, read_link};
    use std::thread;

    #[test]
    fn a_thread_can_leave_a_namespace_and_come_back() {
        // A thread of its own: the namespaces of the test runner's other threads stay as they are.
        let outcome = thread::spawn(|| {
            let before = read_link("/proc/thread-self/ns/uts").unwrap();
            let home = File::open("/proc/thread-self/ns/uts").unwrap();
            unshare(Namespaces { uts: true, ..Namespaces::default() })?;
            assert_ne!(read_link("/proc/thread-self/ns/uts").unwrap(), before);
            setns(&home)?;
            assert_eq!(read_link("/proc/thread-self/ns/uts").unwrap(), before);
            Ok::<_, io::Errno>(())
        })
        .join()
        .unwrap();
        match outcome {
            Err(io::Errno::PERM) => skip("namespaces need root here"),
            other => other.unwrap(),
        }
    }

    #[test]
    fn a_process_with_threads_gets_no_user_namespace() {
        let refused = thread::spawn(|| unshare(Namespaces::USER_AND_MOUNT)).join().unwrap();
        assert_eq!(refused, Err(io::Errno::INVAL));
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
