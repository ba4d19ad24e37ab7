//! Recently used metadata of sources that are not memory.
//!
//! A table of slots, each for one unit (a block, at least 4 KiB) at a time; a unit has one slot
//! that it may be in. A slot is only ever tried, never waited for: who finds it taken by another
//! thread reads the source instead, so threads do not slow each other down.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

/// Bytes of metadata: borrowed from a source, shared with the cache, or put together.
#[derive(Debug)]
pub(crate) enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>, Range<usize>),
    Owned(Vec<u8>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(unit, range) => unit.get(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A unit of a blob: (blob, number of the unit).
pub(crate) type UnitKey = (usize, u64);

#[derive(Debug)]
struct Slot {
    key: UnitKey,
    unit: Arc<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Cache {
    slots: Box<[Mutex<Option<Slot>>]>,
}

impl Cache {
    /// The fewest slots that are of use.
    const MIN_SLOTS: u64 = 16;
    /// Slots cost memory before anything is in them.
    const MAX_SLOTS: u64 = 1 << 16;

    pub(crate) fn new(bytes: u64, unit_size: u64) -> Self {
        let count = (bytes / unit_size.max(1)).clamp(Self::MIN_SLOTS, Self::MAX_SLOTS);
        Self { slots: (0..count).map(|_| Mutex::new(None)).collect() }
    }

    pub(crate) fn get(&self, key: UnitKey) -> Option<Arc<[u8]>> {
        let slot = self.slot(key)?.try_lock().ok()?;
        slot.as_ref().filter(|slot| slot.key == key).map(|slot| Arc::clone(&slot.unit))
    }

    pub(crate) fn put(&self, key: UnitKey, unit: &Arc<[u8]>) {
        if let Some(mut slot) = self.slot(key).and_then(|slot| slot.try_lock().ok()) {
            *slot = Some(Slot { key, unit: Arc::clone(unit) });
        }
    }

    /// Neighbouring units have neighbouring slots, so a run of metadata does not push itself out.
    fn slot(&self, (blob, unit): UnitKey) -> Option<&Mutex<Option<Slot>>> {
        let number = (blob as u64).wrapping_mul(0x9E37_79B9).wrapping_add(unit);
        let index = number.checked_rem(self.slots.len() as u64)?;
        self.slots.get(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_until_another_takes_its_slot() {
        let cache = Cache::new(0, 4096);
        let unit: Arc<[u8]> = Arc::from([1_u8, 2, 3]);
        cache.put((0, 5), &unit);
        assert_eq!(cache.get((0, 5)).as_deref(), Some(&[1, 2, 3][..]));
        assert!(cache.get((1, 5)).is_none());
        cache.put((0, 5 + Cache::MIN_SLOTS), &unit);
        assert!(cache.get((0, 5)).is_none());
    }

    #[test]
    fn memory_stays_within_bounds_whatever_is_asked_for() {
        assert_eq!(Cache::new(u64::MAX, 4096).slots.len() as u64, Cache::MAX_SLOTS);
        assert_eq!(Cache::new(4 << 20, 4096).slots.len(), 1024);
    }
}
