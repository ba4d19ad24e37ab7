//! Clusters that do not decode, and why.
//!
//! In the packed inode one cluster holds the ends of many files. If it is damaged, each of them fails; but not
//! each should take the time to find that out.

use std::collections::HashMap;
use std::sync::Mutex;

use erofs_codec::DecodeError;

use crate::clusters::ClusterKey;
use crate::lock::lock;

/// Clusters remembered at most. When there are more, it begins anew.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Broken(Mutex<HashMap<ClusterKey, (usize, DecodeError)>>);

impl Broken {
    /// Why the first `len` bytes of a cluster can't be had, if that was found out.
    pub(crate) fn why(&self, key: ClusterKey, len: usize) -> Option<DecodeError> {
        let broken = lock(&self.0);
        // What fails for a beginning fails for every longer one.
        broken.get(&key).filter(|(least, _)| len >= *least).map(|(_, cause)| *cause)
    }

    /// The first `len` bytes of a cluster can't be had.
    pub(crate) fn remember(&self, key: ClusterKey, len: usize, cause: DecodeError) {
        let mut broken = lock(&self.0);
        if broken.len() >= MOST {
            broken.clear();
        }
        let known = broken.entry(key).or_insert((len, cause));
        if len < known.0 {
            *known = (len, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use erofs_format::compression::Algorithm;

    use super::*;

    fn key(position: u64) -> ClusterKey {
        ClusterKey { blob: Some(0), position, plen: 4096, algorithm: Algorithm::Lzma, exact: None }
    }

    #[test]
    fn a_beginning_may_be_had_of_what_is_broken_further_on() {
        let broken = Broken::default();
        broken.remember(key(0), 1000, DecodeError::OnlyPadding);
        assert_eq!(broken.why(key(0), 999), None);
        assert_eq!(broken.why(key(0), 1000), Some(DecodeError::OnlyPadding));
        broken.remember(key(0), 500, DecodeError::OnlyPadding);
        broken.remember(key(0), 2000, DecodeError::OnlyPadding);
        assert_eq!(broken.why(key(0), 500), Some(DecodeError::OnlyPadding));
        assert_eq!(broken.why(key(1), 500), None);
    }

    #[test]
    fn it_takes_no_more_memory_with_every_lie() {
        let broken = Broken::default();
        for position in 0..3 * MOST as u64 {
            broken.remember(key(position), 1, DecodeError::OnlyPadding);
        }
        assert!(broken.0.lock().unwrap().len() <= MOST);
    }
}
