//! One thread that lets waiting requests run out of patience.
//!
//! A timer for every request would cost more than most of them wait, so whoever has requests waiting is asked now and then instead.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often, while anything waits; a deadline is kept to within this.
const PERIOD: Duration = Duration::from_millis(50);

/// Something whose requests may have waited long enough.
pub(crate) trait Tick: Send + Sync {
    /// Answers what has waited too long at `now`; false when nothing waits any more.
    fn tick(&self, now: Instant) -> bool;
}

/// The thread, which sleeps while nothing waits and ends when this is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watched: Vec<Weak<dyn Tick>>,
    closed: bool,
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").finish_non_exhaustive()
    }
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("deadlines".into()).spawn(move || run(&of_thread))?;
        Ok(Self { shared })
    }

    /// Has `who` asked from now on, until it says that nothing waits. To be called once each time that it begins to wait, without a
    /// lock that [`Tick::tick`] takes.
    pub(crate) fn watch(&self, who: Weak<dyn Tick>) {
        self.shared.lock().watched.push(who);
        self.shared.changed.notify_one();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared) {
    loop {
        let asleep = shared.lock();
        let mut state = shared
            .changed
            .wait_while(asleep, |state| state.watched.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return;
        }
        let watched = std::mem::take(&mut state.watched);
        drop(state);
        std::thread::sleep(PERIOD);
        let now = Instant::now();
        let still: Vec<_> =
            watched.into_iter().filter(|who| who.upgrade().is_some_and(|who| who.tick(now))).collect();
        shared.lock().watched.extend(still);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Countdown(AtomicU32);

    impl Tick for Countdown {
        fn tick(&self, _: Instant) -> bool {
            self.0.fetch_sub(1, Ordering::Relaxed) > 1
        }
    }

    #[test]
    fn whoever_waits_is_asked_until_nothing_waits_and_not_after() {
        let ticker = Ticker::start().unwrap();
        let waiting: Arc<Countdown> = Arc::new(Countdown(AtomicU32::new(2)));
        let weak: Weak<Countdown> = Arc::downgrade(&waiting);
        ticker.watch(weak);
        std::thread::sleep(PERIOD * 6);
        assert_eq!(waiting.0.load(Ordering::Relaxed), 0);
    }
}
