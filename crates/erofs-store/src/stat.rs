//! Counting what a domain holds and what it saves.

use crate::Digest;
use crate::Domain;
use crate::ImageKey;
use crate::ImageStat;
use crate::Result;
use crate::StatReport;
use crate::dir;
use crate::filesystem;
use crate::images;
use rustix::io::Errno;
use std::collections::HashMap;

/// What matters of one object.
struct Object {
    size: u64,
    /// `None` where the kernel doesn't tell.
    resident: Option<u64>,
    mounts: u64,
}

impl Domain {
    /// Counts. `mounted` lists the image of every mount (twice mounted: listed twice).
    pub fn stat(&self, mounted: &[ImageKey]) -> Result<StatReport> {
        let kind = filesystem::kind(self).map_err(|errno| self.io("statfs", "", errno))?;
        let mut report = StatReport {
            filesystem: kind.name.to_owned(),
            in_memory: kind.class == filesystem::Class::Memory,
            limit_is_set: self.limit()?.is_some(),
            ..StatReport::default()
        };
        let mut objects: HashMap<Digest, Object> = HashMap::new();
        self.objects().list(&mut |listed| {
            let size = dir::size(&listed.stat);
            report.objects += 1;
            report.bytes = report.bytes.saturating_add(size);
            report.disk_bytes = report.disk_bytes.saturating_add(dir::disk_bytes(&listed.stat));
            // An overlay's own inodes have no pages: those below them have.
            let resident = if kind.name == "overlay" { None } else { self.resident(&listed.path, size)? };
            objects.insert(listed.digest, Object { size, resident, mounts: 0 });
            Ok(())
        })?;
        report.limit = self.effective_limit(report.disk_bytes)?;
        for image in images::all(self)? {
            let mounts = mounted.iter().filter(|key| **key == image.key).count() as u64;
            let mut bytes: u64 = 0;
            for digest in image.digests() {
                if let Some(object) = objects.get_mut(&digest) {
                    object.mounts += mounts;
                    bytes = bytes.saturating_add(object.size);
                }
            }
            report.images.push(ImageStat {
                key: image.key.to_hex(),
                name: image.record.name,
                last_mounted: image.record.last_mounted,
                mounts,
                facts: image.file.facts.len() as u64,
                bytes,
            });
        }
        let times = |bytes: u64, object: &Object| bytes.saturating_mul(object.mounts.saturating_sub(1));
        report.resident_bytes = objects.values().map(|object| object.resident).sum();
        report.saved_bytes = objects.values().map(|object| times(object.size, object)).sum();
        report.saved_resident_bytes =
            objects.values().map(|object| object.resident.map(|bytes| times(bytes, object))).sum();
        Ok(report)
    }

    /// How many bytes of a file are in the page cache.
    fn resident(&self, path: &str, size: u64) -> Result<Option<u64>> {
        let file = match dir::open_file(self, path) {
            Ok(file) => file,
            // Evicted in between.
            Err(Errno::NOENT) => return Ok(Some(0)),
            Err(errno) => return Err(self.io("open", path, errno)),
        };
        match erofs_sys::cachestat(&file, 0, 0) {
            Ok(stat) => Ok(Some(stat.cached.saturating_mul(rustix::param::page_size() as u64).min(size))),
            Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.io("count the cached pages of", path, errno)),
        }
    }

    /// The images that somebody has mounted now, through any keeper.
    pub fn mounted_images(&self) -> Result<Vec<ImageKey>> {
        let lock = images::open_lock(self)?;
        let _held = images::Held::new(&lock, true).map_err(|errno| self.io("lock", images::LOCK, errno))?;
        let mut mounted = Vec::new();
        for image in images::all(self)? {
            if images::is_mounted(self, &image.key)? {
                mounted.push(image.key);
            }
        }
        Ok(mounted)
    }
}
