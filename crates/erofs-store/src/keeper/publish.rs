//! Making a file into an object: hash, compare, link, record; in this order and never another.

use super::Shared;
use super::client::Outcome;
use super::content;
use super::content::Part;
use super::content::Reader;
use super::queue::Job;
use super::temporary::Temporary;
use crate::Digest;
use crate::Result;
use crate::dir;
use crate::evict;
use crate::facts::Fact;
use crate::images;
use crate::images::Held;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// The largest file that becomes an object; hashing more takes longer than anybody waits.
const MAX_OBJECT: u64 = 64 << 30;
/// After an eviction that freed nothing the next is not tried at once.
const EVICT_PAUSE: Duration = Duration::from_secs(5);

/// What a worker has for itself.
#[derive(Debug)]
pub(crate) struct Worker<'s> {
    shared: &'s Shared,
    reader: Reader<'s>,
    /// An open file of its own, since a lock belongs to one.
    lock: OwnedFd,
}

impl<'s> Worker<'s> {
    pub(crate) fn new(shared: &'s Shared) -> Result<Self> {
        let lock = images::open_lock(&shared.domain)?;
        Ok(Self { shared, reader: Reader::new(&shared.stopping), lock })
    }

    /// Works until the queue is closed.
    pub(crate) fn run(&mut self) {
        while let Some(job) = self.shared.queue.take() {
            self.run_one(&job);
        }
    }

    /// Publishes a file that the queue gave out.
    pub(crate) fn run_one(&mut self, job: &Job) {
        let outcome = self.publish(job);
        self.shared.answer_publish(job.call, outcome);
        if self.shared.queue.finish(job) {
            for part in &job.parts {
                if let Part::Data { source, .. } = part {
                    source.drop_pages();
                }
            }
        }
    }

    fn publish(&mut self, job: &Job) -> Outcome {
        let mut result = self.try_publish(job);
        // What was to be linked may just have been evicted, or the disk be full of what may go.
        if result == Err(Errno::STALE) || result == Err(Errno::NOSPC) && self.shared.make_room(job.size) {
            result = self.try_publish(job);
        }
        match result {
            Ok(outcome) => outcome,
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::MLINK) => Outcome::NoSpace,
            Err(errno) => Outcome::Io(errno.raw_os_error()),
        }
    }

    fn try_publish(&mut self, job: &Job) -> Result<Outcome, Errno> {
        if let Some(found) = job.image.lie(job.nid) {
            return Ok(Outcome::Mismatch { found });
        }
        if let Some(outcome) = self.by_fact(job)? {
            return Ok(outcome);
        }
        if job.size > MAX_OBJECT {
            return Err(Errno::FBIG);
        }
        let (digest, temporary) = self.hash_and_fill(job)?;
        if job.claimed.is_some_and(|claimed| claimed != digest) {
            job.image.remember_lie(job.nid, digest);
            return Ok(Outcome::Mismatch { found: digest });
        }

        let domain = &self.shared.domain;
        let _held = Held::new(&self.lock, false)?;
        let path = match (domain.objects().find(&digest), temporary) {
            (Some(path), _) => path,
            (None, Some(temporary)) => self.link_object(&digest, temporary)?,
            // Evicted since it was looked for.
            (None, None) => return Err(Errno::STALE),
        };
        self.link_by_nid(job, &path)?;
        job.image.record(job.nid, Fact { digest, size: job.size });
        Ok(Outcome::Published(digest))
    }

    /// The answer for a file that was hashed before, if its object is there.
    fn by_fact(&self, job: &Job) -> Result<Option<Outcome>, Errno> {
        let Some(digest) = job.image.fact(job.nid) else { return Ok(None) };
        if job.claimed.is_some_and(|claimed| claimed != digest) {
            return Ok(Some(Outcome::Mismatch { found: digest }));
        }
        let _held = Held::new(&self.lock, false)?;
        let Some(path) = self.shared.domain.objects().find(&digest) else { return Ok(None) };
        self.link_by_nid(job, &path)?;
        Ok(Some(Outcome::Published(digest)))
    }

    /// The digest of the job's bytes, and a new file that holds them unless it is known to be
    /// superfluous. A claim tells where to look, not what is there: the bytes are hashed in any case.
    fn hash_and_fill(&mut self, job: &Job) -> Result<(Digest, Option<Temporary<'s>>), Errno> {
        let shared = self.shared;
        let objects = shared.domain.objects();
        // Where extents can't be shared a small file is hashed before anything is made, for making it in
        // vain is dear: ext4 looks for a new inode among those that were just deleted.
        if !content::may_share(&job.parts)
            && let Some((bytes, digest)) = self.reader.load(&job.parts, job.size)?
        {
            let wanted = job.claimed.is_none_or(|claimed| claimed == digest) && !objects.contains(&digest);
            if !wanted {
                return Ok((digest, None));
            }
            let temporary = shared.temporary(job)?;
            content::write(temporary.file(), bytes, 0)?;
            return Ok((digest, Some(temporary)));
        }
        if job.claimed.is_some_and(|claimed| objects.contains(&claimed)) {
            return Ok((self.reader.hash(&job.parts)?, None));
        }
        let temporary = shared.temporary(job)?;
        let digest = match self.reader.clone(&job.parts, temporary.file(), job.size)? {
            Some(digest) => digest,
            None => self.reader.copy(&job.parts, temporary.file(), job.size)?,
        };
        Ok((digest, Some(temporary)))
    }

    /// Gives a new object its name. Somebody else may have been quicker: then theirs is the object.
    fn link_object(&self, digest: &Digest, mut temporary: Temporary<'_>) -> Result<String, Errno> {
        let domain = &self.shared.domain;
        let stat = temporary.seal(self.shared.verity)?;
        let path = domain.fresh_object_path(digest);
        let linked = match temporary.link(domain, &path) {
            Err(Errno::NOENT) => {
                let folder = path.rsplit_once('/').map_or("fresh", |(folder, _)| folder);
                dir::make(domain, folder)?;
                temporary.link(domain, &path)
            }
            other => other,
        };
        match linked {
            Ok(()) => {
                self.shared.usage.fetch_add(dir::disk_bytes(&stat), Ordering::Relaxed);
                self.shared.batch.add(*digest);
                Ok(path)
            }
            Err(Errno::EXIST) => Ok(path),
            Err(errno) => Err(errno),
        }
    }

    /// Links the object under the image's key and the nid. Only verified bytes ever get such a name,
    /// so one that is there already is as good.
    fn link_by_nid(&self, job: &Job, object: &str) -> Result<(), Errno> {
        let domain = &self.shared.domain;
        let path = format!("{}/{}", domain.by_nid_path(&job.image.key), job.nid);
        match rustix::fs::linkat(domain, object, domain, &path, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::NOENT) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        }
    }
}

impl Shared {
    /// A new file for the job's bytes, if there is room for them.
    fn temporary(&self, job: &Job) -> Result<Temporary<'_>, Errno> {
        let needed = job.parts.iter().map(Part::disk_len).fold(0, u64::saturating_add);
        if !self.has_room(needed) {
            return Err(Errno::NOSPC);
        }
        Temporary::new(&self.domain, &self.temporary_prefix)
    }

    /// Whether so many bytes more keep within the limit; evicts if they don't.
    fn has_room(&self, needed: u64) -> bool {
        let over = self.over_limit(needed);
        // A twentieth more, so that it is not called for every file.
        over == 0
            || self.make_room(over.saturating_add(self.limit.load(Ordering::Relaxed) / 20))
                && self.over_limit(needed) == 0
    }

    fn over_limit(&self, needed: u64) -> u64 {
        let used = self.usage.load(Ordering::Relaxed).saturating_add(needed);
        used.saturating_sub(self.limit.load(Ordering::Relaxed))
    }

    /// Evicts until so many bytes are free that were not. Whether any were.
    fn make_room(&self, wanted: u64) -> bool {
        let mut not_before = self.evict_not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return false;
        }
        // An eviction that fails frees nothing, and the file is served unshared.
        let freed = evict::make_room(&self.domain, wanted, || self.mounted_digests()).unwrap_or(0);
        let _ = self
            .usage
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(freed)));
        if freed == 0 {
            *not_before = Some(Instant::now() + EVICT_PAUSE);
        }
        freed > 0
    }
}
