//! The server's log: standard error, one line an event, so many a minute.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A corrupt image could have a line written for every request; more than this in a [`WINDOW`] is counted instead.
const LINES: u32 = 30;

/// What [`LINES`] is counted over.
const WINDOW: Duration = Duration::from_secs(60);

/// Where the events of one image go.
#[derive(Debug)]
pub(crate) struct Log {
    /// What each line starts with.
    image: String,
    state: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u32,
    dropped: u64,
}

impl Log {
    /// A log for the image that messages call `image`.
    pub(crate) fn new(image: &str) -> Self {
        let state = Window { start: Instant::now(), lines: 0, dropped: 0 };
        Self { image: printable(image), state: Mutex::new(state) }
    }

    /// Writes one line, or counts it where there were too many lately.
    pub(crate) fn line(&self, event: impl Display) {
        let Some(dropped) = self.admit(Instant::now()) else { return };
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to tell when the log itself can't be written.
        if dropped > 0 {
            let _ = writeln!(stderr, "pyerofs: {}: {dropped} more messages left out", self.image);
        }
        let _ = writeln!(stderr, "pyerofs: {}: {}", self.image, printable(&event.to_string()));
    }

    /// Whether a line may be written now, and how many were left out before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(state.start) >= WINDOW {
            state.start = now;
            state.lines = 0;
        }
        if state.lines >= LINES {
            state.dropped += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.dropped))
    }
}

/// Writes a line about the server itself.
pub(crate) fn server(event: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "pyerofs: {}", printable(&event.to_string()));
}

/// Names come from images: a control character in one must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupt_image_cannot_fill_the_log() {
        let log = Log::new("x");
        let start = Instant::now();
        let written = (0..1000).filter(|_| log.admit(start).is_some()).count();
        assert_eq!(written, LINES as usize);
        assert_eq!(log.admit(start + WINDOW), Some(1000 - u64::from(LINES)), "what was left out is counted");
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
