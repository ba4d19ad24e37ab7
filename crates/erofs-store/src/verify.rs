//! Looking whether everything is what its name says.

use crate::Digest;
use crate::Domain;
use crate::Result;
use crate::VerifyProblem;
use crate::VerifyReport;
use crate::dir;
use crate::facts;
use crate::hash;
use crate::images;
use crate::objects::Listed;
use rustix::fs::AtFlags;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

const THREADS: usize = 2;
const QUARANTINE: &str = "quarantine";

impl Domain {
    /// Hashes every object and checks every fact. With `repair` (needs the exclusive lock) what is
    /// bad is put aside in `quarantine/`, so that the next mount makes it anew.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport> {
        let _lock = if repair { self.lock_exclusive()? } else { self.lock_shared()? };
        let mut objects = Vec::new();
        let mut report = VerifyReport::default();
        for root in ["objects".to_owned(), self.fresh_path()] {
            self.objects().list_below(&root, &mut |object| {
                // One inode under two names is hashed once, under the durable one.
                let twice = root != "objects"
                    && rustix::fs::statat(
                        self,
                        Domain::durable_path(&object.digest),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )
                    .is_ok_and(|durable| durable.st_ino == object.stat.st_ino);
                if !twice {
                    report.objects += 1;
                    report.bytes = report.bytes.saturating_add(dir::size(&object.stat));
                    objects.push(object);
                }
                Ok(())
            })?;
        }
        report.problems = check_all(self, &objects);
        self.verify_facts(&mut report)?;
        self.find_strangers(&mut report)?;
        if repair && !report.problems.is_empty() {
            self.repair(&mut report)?;
        }
        Ok(report)
    }

    fn verify_facts(&self, report: &mut VerifyReport) -> Result<()> {
        for image in images::all(self)? {
            report.facts += image.file.facts.len() as u64;
            if image.file.bad > 0 {
                report.problems.push(VerifyProblem {
                    path: facts::path(&image.key),
                    problem: format!("{} records are no facts, and are not used", image.file.bad),
                    found: None,
                    repaired: false,
                });
            }
        }
        Ok(())
    }

    /// Names that no keeper gives.
    fn find_strangers(&self, report: &mut VerifyReport) -> Result<()> {
        let mut stranger = |path: String| {
            report.problems.push(VerifyProblem {
                path,
                problem: "this is not an object".into(),
                found: None,
                repaired: false,
            });
        };
        for folder in dir::names(self, "objects").map_err(|errno| self.io("list", "objects", errno))? {
            let below = format!("objects/{}", String::from_utf8_lossy(&folder));
            let names = dir::names(self, below.as_str()).ok().filter(|_| folder.len() == 2);
            let Some(names) = names else {
                stranger(below);
                continue;
            };
            for name in names.iter().filter(|name| Digest::from_object_path(&folder, name).is_none()) {
                stranger(format!("{below}/{}", String::from_utf8_lossy(name)));
            }
        }
        Ok(())
    }

    /// Puts bad objects and bad facts aside. A bad inode may have names in `fresh/` too, and nobody
    /// has a mount: so all of those go.
    fn repair(&self, report: &mut VerifyReport) -> Result<()> {
        dir::make(self, QUARANTINE).map_err(|errno| self.io("make", QUARANTINE, errno))?;
        for problem in &mut report.problems {
            let name = dir::unique_name(&problem.path.replace('/', "_"))
                .map_err(|errno| self.io("name", QUARANTINE, errno))?;
            self.remove_fresh_name(&problem.path)?;
            rustix::fs::renameat(self, &problem.path, self, format!("{QUARANTINE}/{name}"))
                .map_err(|errno| self.io("put aside", &problem.path, errno))?;
            problem.repaired = true;
        }
        self.promote()?;
        self.remove_fresh()
    }
}

impl Domain {
    /// Removes the other name of a bad inode, or it would be made durable again.
    fn remove_fresh_name(&self, path: &str) -> Result<()> {
        let Some(name) = path.strip_prefix("objects/") else { return Ok(()) };
        let fresh = format!("{}/{name}", self.fresh_path());
        let inode = |path: &str| {
            rustix::fs::statat(self, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_ino)
        };
        if inode(path) != inode(&fresh) {
            return Ok(());
        }
        dir::gone_is_fine(rustix::fs::unlinkat(self, &fresh, AtFlags::empty()))
            .map_err(|errno| self.io("delete", &fresh, errno))
    }
}

/// Hashes the objects, on two threads; what is wrong with them, in no order.
fn check_all(domain: &Domain, objects: &[Listed]) -> Vec<VerifyProblem> {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    let work = || {
        while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(problem) = check(domain, object) {
                problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS {
            // Without a second thread it takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    problems.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn check(domain: &Domain, object: &Listed) -> Option<VerifyProblem> {
    let problem = |problem: &str, found: Option<Digest>| {
        Some(VerifyProblem {
            path: object.path.clone(),
            problem: problem.to_owned(),
            found: found.map(|found| found.to_hex()),
            repaired: false,
        })
    };
    if rustix::fs::FileType::from_raw_mode(object.stat.st_mode) != rustix::fs::FileType::RegularFile {
        return problem("this is not a regular file", None);
    }
    let found = match dir::open_file(domain, &object.path).map_err(io::Error::from).and_then(hash::whole) {
        Ok(found) => found,
        // Evicted in between.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return problem(&format!("it can't be read: {error}"), None),
    };
    if found != object.digest {
        return problem("its bytes are not what its name says", Some(found));
    }
    if object.stat.st_mode & 0o222 != 0 {
        return problem("it is writable", None);
    }
    None
}
