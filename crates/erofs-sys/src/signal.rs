//! Signals as something to poll.

use rustix::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A descriptor that can be read when SIGTERM, SIGINT or SIGHUP came; they do nothing else from now on.
///
/// To be called before the process has other threads: those that exist already would still be killed.
pub fn termination() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set in before anything reads it, and the numbers added are valid.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    };
    // SAFETY: both calls only read the set.
    let fd = unsafe {
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Errno::INVAL);
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(crate::last_errno());
    }
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_signal_is_announced_and_kills_nobody() {
        // A thread of its own, signalled alone: the test runner keeps its own ways of ending.
        std::thread::spawn(|| {
            let fd = termination().unwrap();
            // SAFETY: sends a signal to this thread, which blocks it.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) }, 0);
            let mut polled = [PollFd::new(&fd, PollFlags::IN)];
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            assert_eq!(poll(&mut polled, Some(&second)).unwrap(), 1);
        })
        .join()
        .unwrap();
    }
}
