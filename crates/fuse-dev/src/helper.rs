//! When the threads beside the first one take part.
//!
//! A request is there for the taking for a moment even if the first thread is about to come for it: its answer wakes the
//! client on the same CPU, the client runs first, and asks again. Another thread that waited for requests then would be
//! woken for a third of them (measured), on another CPU, mostly in vain. So it does not wait but looks around now and then, and
//! waits only if the first thread is really held up (a disk, a decoder), or while nothing happens at all.

use rustix::event::Timespec;
use std::thread;
use std::time::Duration;

/// How long the first thread is left alone with a request.
const TICK: Duration = Duration::from_millis(1);
const TICK_TIMEOUT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// Looks without any sign of life until the thread rests.
const QUIET: u32 = 100;

/// What a helping thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nobody asks for anything: wait for the first request that the first thread does not take at once.
    Resting,
    /// Look again in a while.
    Watching,
    /// There was something to do: look again at once.
    Draining,
    /// The first thread is held up: wait for requests in its place.
    Standing,
}

/// The part of one helping thread.
#[derive(Debug)]
pub(crate) struct Helper {
    mode: Mode,
    /// How many rounds the first thread had finished at the last look.
    seen: u64,
    quiet: u32,
}

impl Helper {
    pub(crate) const fn new() -> Self {
        Self { mode: Mode::Resting, seen: 0, quiet: 0 }
    }

    /// Lets time pass until the next look; gives the look's own timeout (`None`: until something comes).
    pub(crate) fn pause(&self) -> Option<Timespec> {
        match self.mode {
            Mode::Resting => None,
            Mode::Watching => {
                thread::sleep(TICK);
                Some(NOW)
            }
            Mode::Draining => Some(NOW),
            Mode::Standing => Some(TICK_TIMEOUT),
        }
    }

    /// Notes a look: whether anything was found to do, and how many rounds the first thread has finished by now.
    pub(crate) fn looked(&mut self, found: bool, progress: u64) {
        let held_up = progress == self.seen;
        self.seen = progress;
        self.quiet = if held_up && !found { self.quiet + 1 } else { 0 };
        self.mode = match self.mode {
            _ if self.quiet >= QUIET => Mode::Resting,
            Mode::Watching if found && held_up => Mode::Standing,
            Mode::Standing if held_up => Mode::Standing,
            _ if found => Mode::Draining,
            _ => Mode::Watching,
        };
        if self.mode == Mode::Resting {
            self.quiet = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(looks: &[(bool, u64)]) -> Mode {
        let mut helper = Helper::new();
        for (found, progress) in looks {
            helper.looked(*found, *progress);
        }
        helper.mode
    }

    #[test]
    fn a_first_thread_that_keeps_up_is_left_alone() {
        assert_eq!(after(&[(false, 1)]), Mode::Watching);
        assert_eq!(after(&[(false, 1), (false, 100), (true, 200), (false, 201)]), Mode::Watching);
    }

    #[test]
    fn a_first_thread_that_is_overrun_is_helped_until_nothing_is_left() {
        assert_eq!(after(&[(false, 1), (true, 100), (true, 101), (true, 102)]), Mode::Draining);
    }

    #[test]
    fn a_first_thread_that_is_held_up_is_stood_in_for_until_it_moves() {
        assert_eq!(after(&[(true, 1), (false, 1), (true, 1)]), Mode::Standing);
        assert_eq!(after(&[(true, 1), (false, 1), (true, 1), (false, 1), (true, 1)]), Mode::Standing);
        assert_eq!(after(&[(true, 1), (false, 1), (true, 1), (false, 2)]), Mode::Watching);
    }

    #[test]
    fn an_idle_mount_costs_no_wake_ups() {
        let mut looks = vec![(true, 7)];
        looks.extend([(false, 7); QUIET as usize]);
        assert_eq!(after(&looks), Mode::Resting);
    }
}
