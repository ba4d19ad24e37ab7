//! Times of files and of the image.

use std::collections::HashMap;

use crate::options::Times;
use crate::tree::{Time, Tree};

impl Times {
    /// The time that a file modified at `mtime` gets.
    pub(crate) fn of_file(self, mtime: Time) -> Time {
        let time = self.all.map_or(mtime, |all| (all, 0));
        match self.source_date_epoch {
            Some(latest) if time > (latest, 0) => (latest, 0),
            _ => time,
        }
    }

    /// The image's build time, given the newest time in it.
    fn of_build(self, newest: i64) -> i64 {
        self.source_date_epoch.or(self.all).unwrap_or(newest)
    }
}

/// What the superblock says of times, chosen so that many inodes need no time of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeBase {
    pub(crate) epoch: i64,
    pub(crate) fixed_nsec: u32,
    /// Seconds from `epoch` to the build time.
    pub(crate) build_time: u32,
    /// Compact inodes may have seconds of their own (Linux 6.15).
    pub(crate) compact_times: bool,
}

impl TimeBase {
    pub(crate) fn choose(tree: &Tree, times: Times, compact_times: bool) -> Self {
        let newest = tree.nodes.iter().map(|node| node.mtime.0).max().unwrap_or(0);
        let built = times.of_build(newest);
        let since = |epoch: i64| built.checked_sub(epoch).and_then(|passed| u32::try_from(passed).ok());
        let all = tree.nodes.iter().map(|node| node.mtime);
        if compact_times && let Some(nsec) = most_common(all.clone().map(|time| time.1)) {
            let oldest = all.clone().filter(|time| time.1 == nsec).map(|time| time.0).min();
            let epoch = oldest.unwrap_or(newest).min(built).max(newest.saturating_sub(i64::from(u32::MAX)));
            if let Some(build_time) = since(epoch) {
                return Self { epoch, fixed_nsec: nsec, build_time, compact_times };
            }
        }
        let (epoch, fixed_nsec) = most_common(all).unwrap_or((built, 0));
        match since(epoch) {
            Some(build_time) => Self { epoch, fixed_nsec, build_time, compact_times: false },
            None => Self { epoch: built, fixed_nsec: 0, build_time: 0, compact_times: false },
        }
    }

    /// What a compact inode with this time says, if one can say it.
    pub(crate) fn compact(&self, (seconds, nsec): Time) -> Option<u32> {
        let passed = seconds.checked_sub(self.epoch)?;
        let limit = if self.compact_times { i64::from(u32::MAX) } else { 0 };
        (nsec == self.fixed_nsec && (0..=limit).contains(&passed)).then(|| u32::try_from(passed).ok())?
    }

    pub(crate) fn built(&self) -> i64 {
        self.epoch.saturating_add(i64::from(self.build_time))
    }
}

/// The value that occurs most often; the largest of several.
fn most_common<T: Copy + Ord + std::hash::Hash>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_insert(0u64) += 1;
    }
    counts.into_iter().max_by_key(|(value, count)| (*count, *value)).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_times_are_set_back_to_the_source_date() {
        let times = Times { source_date_epoch: Some(100), all: None };
        assert_eq!(times.of_file((99, 999)), (99, 999));
        assert_eq!(times.of_file((100, 0)), (100, 0));
        assert_eq!(times.of_file((100, 1)), (100, 0));
        assert_eq!(times.of_file((101, 5)), (100, 0));
        assert_eq!(times.of_build(500), 100);
    }

    #[test]
    fn one_time_for_all_is_also_the_build_time() {
        let times = Times { source_date_epoch: None, all: Some(7) };
        assert_eq!(times.of_file((99, 999)), (7, 0));
        assert_eq!(times.of_build(500), 7);
        assert_eq!(Times::default().of_build(500), 500);
    }

    #[test]
    fn a_compact_inode_holds_the_base_time_and_later_ones_only_where_allowed() {
        let mut base = TimeBase { epoch: 10, fixed_nsec: 3, build_time: 5, compact_times: false };
        assert_eq!(base.compact((10, 3)), Some(0));
        assert_eq!(base.compact((11, 3)), None);
        assert_eq!(base.compact((10, 4)), None);
        base.compact_times = true;
        assert_eq!(base.compact((11, 3)), Some(1));
        assert_eq!(base.compact((9, 3)), None);
        assert_eq!(base.compact((10 + (1 << 32), 3)), None);
        assert_eq!(base.compact((i64::MIN, 3)), None);
        assert_eq!(base.built(), 15);
    }
}
