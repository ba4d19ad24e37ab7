//! Locks over what stays consistent also when a thread has panicked over it.

use std::sync::{
    Condvar, LockResult, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

/// Locks `mutex`, whatever became of those who had it before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    whatever(mutex.lock())
}

/// What was behind `mutex`, which nobody needs any more.
pub(crate) fn into_inner<T>(mutex: Mutex<T>) -> T {
    whatever(mutex.into_inner())
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    whatever(lock.read())
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    whatever(lock.write())
}

/// Waits until `bell` rings, without the lock meanwhile.
pub(crate) fn wait<'a, T>(bell: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    whatever(bell.wait(guard))
}

/// [`wait`], but no longer than `patience`.
pub(crate) fn wait_for<'a, T>(
    bell: &Condvar,
    guard: MutexGuard<'a, T>,
    patience: Duration,
) -> MutexGuard<'a, T> {
    whatever(bell.wait_timeout(guard, patience)).0
}

fn whatever<T>(taken: LockResult<T>) -> T {
    taken.unwrap_or_else(PoisonError::into_inner)
}
