//! The threads that decode compressed files for the keeper, apart from the event loops and from each other.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use erofs_image::Scratch;

/// Threads for files that somebody waits for.
const SMALL_THREADS: usize = 2;

/// Something to decode.
pub(crate) struct Job {
    /// What a thread does with the room that it has for it.
    pub(crate) work: Box<dyn FnOnce(&mut Scratch) + Send>,
    /// What it does if that panicked: a bug, but one that must not leave anybody waiting.
    pub(crate) failed: Box<dyn FnOnce() + Send>,
}

/// The threads of a server. They are started when the first compressed file needs them and end when this is dropped. What waits
/// for them is bounded by the flights of each image.
#[derive(Default)]
pub(crate) struct Decoders {
    /// `None` if they could not be started.
    started: OnceLock<Option<Started>>,
}

struct Started {
    small: Sender<Job>,
    /// Large files take seconds and keep others waiting no longer than each other: the keeper makes them one at a time too.
    large: Sender<Job>,
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoders").finish_non_exhaustive()
    }
}

impl Decoders {
    /// Has a thread do the job; false if there are none.
    pub(crate) fn submit(&self, large: bool, job: Job) -> bool {
        let Some(started) = self.started.get_or_init(|| start().ok()) else { return false };
        let queue = if large { &started.large } else { &started.small };
        queue.send(job).is_ok()
    }
}

fn start() -> std::io::Result<Started> {
    let (small, jobs) = unbounded();
    for _ in 0..SMALL_THREADS {
        spawn(jobs.clone())?;
    }
    let (large, jobs) = unbounded();
    spawn(jobs)?;
    Ok(Started { small, large })
}

fn spawn(jobs: Receiver<Job>) -> std::io::Result<()> {
    let work = move || {
        let mut scratch = Scratch::new();
        for Job { work, failed } in jobs {
            if catch_unwind(AssertUnwindSafe(|| work(&mut scratch))).is_err() {
                scratch = Scratch::new();
                failed();
            }
        }
    };
    thread::Builder::new().name("decode".into()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn job(work: impl FnOnce() + Send + 'static, failed: impl FnOnce() + Send + 'static) -> Job {
        Job { work: Box::new(move |_| work()), failed: Box::new(failed) }
    }

    #[test]
    fn a_large_file_does_not_keep_small_ones_waiting() {
        let decoders = Decoders::default();
        let (end, ended) = channel::<()>();
        let wait = move || {
            let _ = ended.recv();
        };
        assert!(decoders.submit(true, job(wait, || ())));
        let (done, told) = channel();
        for number in 0..10 {
            let done = done.clone();
            assert!(decoders.submit(false, job(move || done.send(number).unwrap_or_default(), || ())));
        }
        drop(done);
        assert_eq!(told.iter().count(), 10);
        drop(end);
    }

    #[test]
    fn a_panic_ends_one_file_and_no_thread() {
        let decoders = Decoders::default();
        let (done, told) = channel();
        for number in 0..3 * SMALL_THREADS {
            let (failed, fine) = (done.clone(), done.clone());
            let bug = || panic!("the test says so");
            assert!(decoders.submit(false, job(bug, move || failed.send(number).unwrap_or_default())));
            assert!(decoders.submit(false, job(move || fine.send(number).unwrap_or_default(), || ())));
        }
        drop(done);
        assert_eq!(told.iter().count(), 6 * SMALL_THREADS);
    }
}
