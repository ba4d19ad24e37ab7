//! Work on many threads whose results are taken in order.
//!
//! Jobs get numbers in the order in which they come. Threads do them at the same time, but what they make is
//! committed one after the other, by number, and the next job is not begun when [`WINDOW`] are under way: so
//! nothing in the image depends on which thread was faster, and what waits to be committed has a bound.
//! A commit may order a further job. It gets the first number that surely nobody has yet, [`WINDOW`] later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::lock::{into_inner, lock, wait};

/// Jobs that are under way at most, from the first one not committed on. The same for every number of
/// threads, since the places of ordered jobs depend on it.
const WINDOW: u64 = 32;

/// What is done with a job.
pub(super) trait Stages: Sync {
    type Job: Send;
    type Made: Send;
    /// What one thread keeps from job to job.
    type Scratch;

    fn scratch(&self) -> Result<Self::Scratch>;

    /// Does a job; many at the same time.
    fn work(&self, job: Self::Job, scratch: &mut Self::Scratch) -> Result<Self::Made>;
}

/// Takes what was made, in order, and may order one more job for each.
pub(super) trait Commit: Send {
    type Job;
    type Made;

    fn commit(&mut self, made: Self::Made) -> Result<Option<Self::Job>>;

    /// Called when everything is committed; a job that it orders is done and committed too.
    fn finish(&mut self) -> Result<Option<Self::Job>>;
}

/// Does all jobs on `threads` threads; the committer is given back with everything committed.
///
/// `stop` is set when something failed: long jobs should look at it and end with [`Error::Cancelled`].
pub(super) fn run<S, C>(
    stages: &S,
    jobs: impl Iterator<Item = S::Job> + Send,
    committer: C,
    threads: usize,
    stop: &AtomicBool,
) -> Result<C>
where
    S: Stages,
    C: Commit<Job = S::Job, Made = S::Made>,
{
    let run = Run {
        stages,
        stop,
        state: Mutex::new(State {
            jobs,
            ordered: BTreeMap::new(),
            exhausted: false,
            begun: 0,
            committed: 0,
            made: BTreeMap::new(),
            committer: Some(committer),
            over: false,
            error: None,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| run.work());
        }
        run.work();
    });
    let state = into_inner(run.state);
    match (state.error, state.committer) {
        (Some((_, error)), _) => Err(error),
        (None, Some(committer)) => Ok(committer),
        // Only a committer that panicked is not put back, and the panic has ended the scope.
        (None, None) => Err(Error::Cancelled),
    }
}

struct Run<'a, S: Stages, C, I> {
    stages: &'a S,
    stop: &'a AtomicBool,
    state: Mutex<State<S, C, I>>,
    changed: Condvar,
}

struct State<S: Stages, C, I> {
    jobs: I,
    /// Jobs that commits have ordered, by their number.
    ordered: BTreeMap<u64, S::Job>,
    /// `jobs` has no more.
    exhausted: bool,
    /// Jobs that were begun, and those whose results were committed.
    begun: u64,
    committed: u64,
    made: BTreeMap<u64, S::Made>,
    /// Away while somebody commits.
    committer: Option<C>,
    /// Everything is committed and finished.
    over: bool,
    /// The error of the job with the lowest number, of those that failed.
    error: Option<(u64, Error)>,
}

impl<S, C, I> Run<'_, S, C, I>
where
    S: Stages,
    C: Commit<Job = S::Job, Made = S::Made>,
    I: Iterator<Item = S::Job> + Send,
{
    fn work(&self) {
        let _bell = Bell(self);
        let mut scratch = match self.stages.scratch() {
            Ok(scratch) => scratch,
            Err(error) => return self.fail(0, error),
        };
        while let Some((number, job)) = self.next() {
            match self.stages.work(job, &mut scratch) {
                Ok(made) => self.commit(number, made),
                Err(error) => self.fail(number, error),
            }
        }
    }

    /// The next job with its number, waiting while others may still order one.
    fn next(&self) -> Option<(u64, S::Job)> {
        let mut state = lock(&self.state);
        loop {
            if state.over || self.stop.load(Ordering::Relaxed) {
                // Whoever else stopped everything, such as the writer, rings no bell here.
                self.changed.notify_all();
                return None;
            }
            if state.begun < state.committed + WINDOW
                && let Some(job) = state.next_job()
            {
                state.begun += 1;
                return Some((state.begun - 1, job));
            }
            if state.exhausted && state.committed == state.begun {
                let mut committer = state.committer.take()?;
                let last = committer.finish();
                state.committer = Some(committer);
                let number = state.begun;
                match last {
                    Ok(Some(job)) => {
                        state.begun += 1;
                        return Some((number, job));
                    }
                    Ok(None) => state.over = true,
                    Err(error) => {
                        state.fail(number, error);
                        self.stop.store(true, Ordering::Relaxed);
                    }
                }
                self.changed.notify_all();
                return None;
            }
            state = wait(&self.changed, state);
        }
    }

    /// Hands in what was made. Whoever finds the committer free commits all that is there.
    fn commit(&self, number: u64, made: S::Made) {
        let mut state = lock(&self.state);
        state.made.insert(number, made);
        while !self.stop.load(Ordering::Relaxed) && state.made.contains_key(&state.committed) {
            let Some(mut committer) = state.committer.take() else { return };
            let committed = state.committed;
            let Some(made) = state.made.remove(&committed) else { return };
            drop(state);
            let ordered = committer.commit(made);
            state = lock(&self.state);
            state.committer = Some(committer);
            match ordered {
                Ok(ordered) => {
                    state.ordered.extend(ordered.map(|job| (committed + WINDOW, job)));
                    state.committed += 1;
                }
                Err(error) => {
                    state.fail(committed, error);
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            self.changed.notify_all();
        }
    }

    fn fail(&self, number: u64, error: Error) {
        lock(&self.state).fail(number, error);
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }
}

/// Lets nobody wait for a thread that panicked.
struct Bell<'a, 'b, S: Stages, C, I>(&'a Run<'b, S, C, I>);

impl<S: Stages, C, I> Drop for Bell<'_, '_, S, C, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop.store(true, Ordering::Relaxed);
            self.0.changed.notify_all();
        }
    }
}

impl<S: Stages, C, I: Iterator<Item = S::Job>> State<S, C, I> {
    /// The job that has the next number. An ordered one has its place among the others; when these have run
    /// out it moves up.
    fn next_job(&mut self) -> Option<S::Job> {
        if let Some(job) = self.ordered.remove(&self.begun) {
            return Some(job);
        }
        if !self.exhausted {
            match self.jobs.next() {
                Some(job) => return Some(job),
                None => self.exhausted = true,
            }
        }
        self.ordered.pop_first().map(|(_, job)| job)
    }

    /// Of several errors the one of the first job is told; that somebody stopped because of another's error
    /// is told only if there is no other.
    fn fail(&mut self, number: u64, error: Error) {
        let rank = |number: u64, error: &Error| (matches!(error, Error::Cancelled), number);
        if self.error.as_ref().is_none_or(|(first, old)| rank(number, &error) < rank(*first, old)) {
            self.error = Some((number, error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Jobs are numbers; the time that each takes is not in their order.
    struct Slow;

    impl Stages for Slow {
        type Job = u64;
        type Made = u64;
        type Scratch = ();

        fn scratch(&self) -> Result<()> {
            Ok(())
        }

        fn work(&self, job: u64, (): &mut ()) -> Result<u64> {
            std::thread::sleep(Duration::from_micros(job * 7919 % 300));
            if job == 13 || job == 17 { Err(failure(job)) } else { Ok(job) }
        }
    }

    fn failure(job: u64) -> Error {
        Error::Option { name: "job", reason: job.to_string() }
    }

    /// Orders 1000 + n for each tenth job, and 5000 at the end.
    #[derive(Default)]
    struct List(Vec<u64>);

    impl Commit for List {
        type Job = u64;
        type Made = u64;

        fn commit(&mut self, made: u64) -> Result<Option<u64>> {
            self.0.push(made);
            Ok((made < 1000 && made.is_multiple_of(10)).then_some(1000 + made))
        }

        fn finish(&mut self) -> Result<Option<u64>> {
            Ok((!self.0.contains(&5000)).then_some(5000))
        }
    }

    fn order(jobs: std::ops::Range<u64>, threads: usize) -> Result<Vec<u64>> {
        run(&Slow, jobs, List::default(), threads, &AtomicBool::new(false)).map(|list| list.0)
    }

    #[test]
    fn the_order_of_results_does_not_depend_on_threads() {
        let alone = order(100..300, 1).unwrap();
        assert_eq!(alone.len(), 200 + 20 + 1);
        let ordered = alone.iter().position(|job| *job == 1100).unwrap();
        assert_eq!(ordered as u64, WINDOW);
        assert_eq!(alone.last(), Some(&5000));
        for threads in [2, 3, 8] {
            assert_eq!(order(100..300, threads).unwrap(), alone, "{threads} threads");
        }
    }

    #[test]
    fn no_job_at_all_is_finished_too() {
        assert_eq!(order(0..0, 4).unwrap(), [5000]);
    }

    #[test]
    fn an_error_ends_everything_soon() {
        for threads in [1, 4] {
            let error = order(10..10_000_000, threads).unwrap_err().to_string();
            assert!(error == "job: 13" || (threads > 1 && error == "job: 17"), "{error}");
        }
    }

    /// Two jobs, the second of which is still being done when it is stopped from outside.
    struct Stopped<'a>(&'a AtomicBool);

    impl Stages for Stopped<'_> {
        type Job = u64;
        type Made = u64;
        type Scratch = ();

        fn scratch(&self) -> Result<()> {
            Ok(())
        }

        fn work(&self, job: u64, (): &mut ()) -> Result<u64> {
            if job == 1 {
                std::thread::sleep(Duration::from_millis(100));
                self.0.store(true, Ordering::Relaxed);
            }
            Ok(job)
        }
    }

    #[test]
    fn nobody_waits_for_ever_when_the_writer_stops_everything() {
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let stop = AtomicBool::new(false);
            let _ = run(&Stopped(&stop), 0..2, List::default(), 2, &stop);
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
