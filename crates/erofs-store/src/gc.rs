//! Removing what nobody can use.

use crate::Digest;
use crate::Domain;
use crate::GcOptions;
use crate::GcReport;
use crate::Result;
use crate::dir;
use crate::evict;
use crate::facts;
use crate::images;
use crate::images::Known;
use crate::keeper;
use rustix::fs::AtFlags;
use std::collections::HashMap;

impl Domain {
    /// Removes what nobody can use, under the exclusive lock: other boots' directories, objects that
    /// belong to no image, what interrupted keepers left; then, if asked, images and objects that
    /// were not used for long. Objects of this boot are made durable first.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        let _lock = self.lock_exclusive()?;
        let mut report = GcReport::default();
        let act = !options.dry_run;
        if act {
            report.other_boots = self.remove_other_boots()?;
            report.promoted = self.promote()?;
            self.remove_fresh()?;
            self.remove_leavings()?;
        }
        let mut known = images::all(self)?;
        if let Some(age) = options.older_than {
            let oldest = dir::now().saturating_sub(age);
            let (kept, old) = known.into_iter().partition(|image| image.record.last_mounted >= oldest);
            known = kept;
            for image in old {
                self.forget(&image, act)?;
                report.images.push(image.key.to_hex());
            }
        }

        let mut sizes = HashMap::new();
        self.objects().list(&mut |object| {
            sizes.insert(object.digest, dir::disk_bytes(&object.stat));
            Ok(())
        })?;
        let mut references = images::references(&known);
        let orphans: Vec<Digest> =
            sizes.keys().filter(|digest| !references.contains_key(digest)).copied().collect();
        for digest in orphans {
            self.collect(&digest, &mut sizes, &mut report, act)?;
        }
        if let Some(keep) = options.keep_bytes {
            // Least recently mounted first; the list is the other way round.
            for image in known.iter().rev() {
                if sizes.values().sum::<u64>() <= keep {
                    break;
                }
                for digest in image.digests() {
                    let Some(count) = references.get_mut(&digest) else { continue };
                    *count -= 1;
                    if *count == 0 {
                        self.collect(&digest, &mut sizes, &mut report, act)?;
                    }
                }
            }
        }
        report.remaining_objects = sizes.len() as u64;
        report.remaining_disk_bytes = sizes.values().sum();
        Ok(report)
    }

    /// Removes an object and counts it.
    fn collect(
        &self,
        digest: &Digest,
        sizes: &mut HashMap<Digest, u64>,
        report: &mut GcReport,
        act: bool,
    ) -> Result<()> {
        let Some(disk_bytes) = sizes.remove(digest) else { return Ok(()) };
        report.objects += 1;
        report.disk_bytes = report.disk_bytes.saturating_add(disk_bytes);
        if act { evict::remove_object(self, digest) } else { Ok(()) }
    }

    /// Makes durable what a killed keeper of this boot did not; how many objects.
    pub(crate) fn promote(&self) -> Result<u64> {
        let mut fresh = Vec::new();
        self.objects().list_below(&self.fresh_path(), &mut |object| {
            if !crate::domain::is_file(self, &Domain::durable_path(&object.digest)) {
                fresh.push(object.digest);
            }
            Ok(())
        })?;
        if !fresh.is_empty() {
            keeper::make_durable(self, &fresh)
                .map_err(|errno| self.io("make durable", &self.fresh_path(), errno))?;
        }
        Ok(fresh.len() as u64)
    }

    /// Deletes this boot's names: everything has a durable one, and nobody has a mount.
    pub(crate) fn remove_fresh(&self) -> Result<()> {
        let fresh = self.fresh_path();
        dir::remove_tree(self, fresh.as_str()).map_err(|errno| self.io("delete", &fresh, errno))
    }

    /// Deletes temporary files that a killed process left.
    fn remove_leavings(&self) -> Result<()> {
        for folder in [".", "images"] {
            for name in dir::names(self, folder).map_err(|errno| self.io("list", folder, errno))? {
                if name.starts_with(b".tmp-") {
                    let path = [folder.as_bytes(), b"/", &name].concat();
                    dir::gone_is_fine(rustix::fs::unlinkat(self, path.as_slice(), AtFlags::empty()))
                        .map_err(|errno| self.io("delete", folder, errno))?;
                }
            }
        }
        Ok(())
    }

    fn forget(&self, image: &Known, act: bool) -> Result<()> {
        let path = facts::path(&image.key);
        for path in [path.clone(), format!("{path}.json")].iter().filter(|_| act) {
            dir::gone_is_fine(rustix::fs::unlinkat(self, path, AtFlags::empty()))
                .map_err(|errno| self.io("delete", path, errno))?;
        }
        Ok(())
    }
}
