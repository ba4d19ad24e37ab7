//! Replies that are kept for later.

use crate::reply::Reply;
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The requests of one connection that wait for work done elsewhere, so that an interrupt finds them.
///
/// Park the reply, hand its number to the work, and take it back when the work is done; it is gone by then if its caller
/// got a signal. Belongs to one filesystem on one connection: other connections count their requests for themselves.
#[derive(Debug, Default)]
pub struct Pending {
    replies: Mutex<HashMap<u64, Reply>>,
}

impl Pending {
    /// Keeps a reply; gives the number to take it back by.
    pub fn park(&self, reply: Reply) -> u64 {
        let unique = reply.unique();
        let mut replies = self.lock();
        replies.insert(unique, reply);
        // Asked only now that `interrupt` would find the reply: one of the two sees the other.
        if replies.get(&unique).is_some_and(Reply::interrupted)
            && let Some(reply) = replies.remove(&unique)
        {
            drop(replies);
            reply.error(Errno::INTR);
        }
        unique
    }

    /// Takes a reply back; `None` if it was interrupted (or taken) meanwhile.
    pub fn take(&self, unique: u64) -> Option<Reply> {
        self.lock().remove(&unique)
    }

    /// For [`crate::Filesystem::interrupt`]: answers EINTR if the request waits here.
    pub fn interrupt(&self, unique: u64) -> bool {
        let Some(reply) = self.take(unique) else { return false };
        reply.error(Errno::INTR);
        true
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves all of them to the next server of the connection; see [`Reply::abandon`].
    pub fn abandon(&self) {
        for (_, reply) in self.lock().drain() {
            reply.abandon();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Reply>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use std::sync::Arc;

    fn reply() -> (std::io::PipeReader, Arc<Device>, Reply) {
        let (reader, writer) = std::io::pipe().unwrap();
        let device = Arc::new(Device::new(writer.into()));
        (reader, Arc::clone(&device), Reply::new(device, 6))
    }

    fn error(reader: &std::io::PipeReader) -> i32 {
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::read(reader, &mut bytes).unwrap(), 16);
        i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    #[test]
    fn an_interrupt_answers_what_waits_and_the_work_finds_nobody() {
        let (reader, _device, reply) = reply();
        let pending = Pending::default();
        let number = pending.park(reply);
        assert_eq!(pending.len(), 1);
        assert!(pending.interrupt(6));
        assert_eq!(error(&reader), -Errno::INTR.raw_os_error());
        assert!(pending.take(number).is_none());
        assert!(!pending.interrupt(6));
    }

    #[test]
    fn an_interrupt_that_came_first_is_not_lost() {
        let (reader, device, reply) = reply();
        device.note_interrupt(6);
        let pending = Pending::default();
        let number = pending.park(reply);
        assert_eq!(error(&reader), -Errno::INTR.raw_os_error());
        assert!(pending.take(number).is_none());
    }

    #[test]
    fn what_is_taken_back_can_be_answered() {
        let (reader, _device, reply) = reply();
        let pending = Pending::default();
        let number = pending.park(reply);
        pending.take(number).unwrap().ok();
        assert_eq!(error(&reader), 0);
        assert!(pending.is_empty());
    }
}
