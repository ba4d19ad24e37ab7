//! Following the client: a round trip costs 2.3 us if server and client share a CPU and 9 us if not, and left alone the
//! scheduler mostly keeps them apart.

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Requests in a row by one thread that make it a client worth following.
const ALONE: u32 = 8;
/// How many of its requests until the next look at where it runs, and how many mixed ones until the thread is let go.
const PERIOD: u32 = 64;
/// /proc may be missing, or forbidden to a sandboxed server.
const MOST_FAILURES: u32 = 16;

/// Where the calling thread runs. Ends where it began: dropping it gives the thread its CPUs back.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The CPUs that the thread had at first; `None`: not following.
    allowed: Option<CpuSet>,
    pinned: Option<usize>,
    client: u32,
    /// Requests of `client` in a row.
    streak: u32,
    /// Requests since any client was alone.
    mixed: u32,
    failures: u32,
}

impl Follower {
    pub(crate) fn new(enabled: bool) -> Self {
        let allowed = if enabled { sched_getaffinity(None).ok() } else { None };
        let allowed = allowed.filter(|allowed| allowed.count() > 1);
        Self { allowed, pinned: None, client: 0, streak: 0, mixed: 0, failures: 0 }
    }

    /// Notes who asked; now and then moves the thread there.
    pub(crate) fn served(&mut self, client: u32) {
        if self.allowed.is_none() || client == 0 {
            return;
        }
        if client == self.client {
            self.streak = self.streak.saturating_add(1);
        } else {
            self.client = client;
            self.streak = 1;
        }
        self.mixed += 1;
        if self.streak >= ALONE {
            self.mixed = 0;
            if self.streak == ALONE || self.streak.is_multiple_of(PERIOD) {
                self.follow();
            }
        } else if self.mixed >= PERIOD {
            // Several at a time: the scheduler knows better than any one of them.
            self.mixed = 0;
            self.release();
        }
    }

    fn follow(&mut self) {
        let Some(allowed) = &self.allowed else { return };
        let Some(cpu) = cpu_of(self.client).filter(|cpu| *cpu < CpuSet::MAX_CPU) else {
            self.failures += 1;
            if self.failures >= MOST_FAILURES {
                self.release();
                self.allowed = None;
            }
            return;
        };
        if self.pinned == Some(cpu) || !allowed.is_set(cpu) {
            return;
        }
        let mut only = CpuSet::new();
        only.set(cpu);
        if sched_setaffinity(None, &only).is_ok() {
            self.pinned = Some(cpu);
        }
    }

    fn release(&mut self) {
        if let (Some(_), Some(allowed)) = (self.pinned.take(), &self.allowed) {
            // The mask was this thread's own a moment ago; if a cpuset shrank meanwhile, the kernel already acted.
            let _ = sched_setaffinity(None, allowed);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.release();
    }
}

/// The CPU on which thread `id` ran last: field 39 of its `stat`.
fn cpu_of(id: u32) -> Option<usize> {
    let id = Pid::from_raw(i32::try_from(id).ok()?)?;
    let path = format!("/proc/{}/stat", id.as_raw_nonzero());
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut stat = [0; 1024];
    let length = rustix::io::read(&file, &mut stat).ok()?;
    processor(stat.get(..length)?)
}

/// Field 39 of a `stat` line. The second field is a name in parentheses that may hold anything, so fields are counted from
/// the last parenthesis.
fn processor(stat: &[u8]) -> Option<usize> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let field =
        stat.get(name_end + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(36)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{gettid, sched_getcpu};
    use std::fmt::Write;

    #[test]
    fn the_cpu_is_found_behind_any_process_name() {
        let mut line = String::from("12 (a) R 1) (b) S");
        for field in 4..53 {
            write!(line, " {field}").unwrap();
        }
        assert_eq!(processor(line.as_bytes()), Some(39));
        assert_eq!(processor(b"12 (a) S 1 2"), None);
        assert_eq!(processor(b""), None);
    }

    #[test]
    fn a_thread_finds_itself() {
        let before = sched_getcpu();
        let found = cpu_of(gettid().as_raw_nonzero().get().unsigned_abs());
        let after = sched_getcpu();
        assert!(before != after || found == Some(before), "{before} {found:?} {after}");
    }

    #[test]
    fn the_thread_gets_its_cpus_back() {
        let allowed = sched_getaffinity(None).unwrap();
        if allowed.count() < 2 {
            return;
        }
        let mut follower = Follower::new(true);
        let client = gettid().as_raw_nonzero().get().unsigned_abs();
        for _ in 0..ALONE {
            follower.served(client);
        }
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        for other in 0..2 * PERIOD {
            follower.served(client + other % 2);
        }
        assert_eq!(sched_getaffinity(None).unwrap(), allowed, "two clients at a time are not followed");
        for _ in 0..ALONE {
            follower.served(client);
        }
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        drop(follower);
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    }

    #[test]
    fn a_client_that_cannot_be_seen_is_given_up() {
        let mut follower = Follower::new(true);
        for client in 0..MOST_FAILURES {
            for _ in 0..ALONE {
                follower.served(i32::MAX as u32 - client);
            }
        }
        assert!(follower.allowed.is_none());
        assert!(follower.pinned.is_none());
    }
}
