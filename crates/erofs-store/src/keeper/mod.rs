//! The keeper: the only process that writes a domain.
//!
//! ```text
//! server --SOCK_SEQPACKET--> reader --queue--> 2 workers --> fresh/ --batch (syncfs)--> objects/
//! ```
//!
//! It parses no image. What it believes of a message is which descriptor a piece lies in and where;
//! the bytes it reads and hashes itself.

pub mod client;

mod batch;
mod content;
mod image;
mod protocol;
mod publish;
mod queue;
mod reader;
mod socket;
mod source;
mod temporary;

use self::batch::Batch;
pub(crate) use self::batch::make_durable;
use self::client::Outcome;
use self::image::Image;
use self::protocol::Answer;
use self::protocol::Reply;
use self::publish::Worker;
use self::queue::Queue;
pub(crate) use self::temporary::Temporary;
use crate::Digest;
use crate::Domain;
use crate::Error;
use crate::ImageKey;
use crate::Result;
use serde::Deserialize;
use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// How many threads hash and copy.
const WORKERS: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    v: u32,
    socket: i32,
    domain: Place,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Place {
    Descriptor(i32),
    Path(String),
}

/// The keeper's process: `{"v":1,"socket":FD,"domain":FD|"PATH"}`; returns when the socket ends.
pub fn main(config_json: &str) -> Result<()> {
    let config: Config =
        serde_json::from_str(config_json).map_err(|error| Error::Config(error.to_string()))?;
    if config.v != 1 {
        return Err(Error::Config(format!("version {} is not 1", config.v)));
    }
    let take =
        |number, what| erofs_sys::fd::duplicate(number).map_err(|errno| Error::io("take over", what, errno));
    let socket = take(config.socket, "the keeper's socket")?;
    let domain = match config.domain {
        Place::Descriptor(number) => Domain::from_fd(take(number, "the domain's directory")?)?,
        Place::Path(path) => Domain::open(Path::new(&path))?,
    };
    // What starts here reads descriptors of others: nobody is to gain from it or look into it.
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| Error::io("give up privileges", "the keeper", errno))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|errno| Error::io("hide", "the keeper", errno))?;
    serve(socket, &domain)
}

/// What the threads of a keeper share.
#[derive(Debug)]
struct Shared {
    domain: Domain,
    /// Where, and with what beginning of a name, new files are made.
    temporary_prefix: String,
    socket: OwnedFd,
    queue: Queue,
    batch: Batch,
    /// Set once nobody waits for answers any more.
    stopping: AtomicBool,
    images: Mutex<HashMap<ImageKey, Arc<Image>>>,
    /// Bytes on disk of all objects, as far as they have been counted.
    usage: AtomicU64,
    /// Above this objects are evicted; set anew when those of earlier keepers have been counted.
    limit: AtomicU64,
    evict_not_before: Mutex<Option<Instant>>,
    /// Whether the filesystem has fs-verity.
    verity: bool,
}

impl Shared {
    fn images(&self) -> MutexGuard<'_, HashMap<ImageKey, Arc<Image>>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects of mounted images, also those whose facts are not on disk yet.
    fn mounted_digests(&self) -> HashSet<Digest> {
        let images: Vec<Arc<Image>> = self.images().values().cloned().collect();
        images.iter().flat_map(|image| image.digests()).collect()
    }

    /// Answers a call. If nobody listens the reader meets the same end.
    fn answer(&self, call: u64, answer: Answer) {
        let _ = socket::send(&self.socket, &Reply { call, answer }.encode(), None, false);
    }

    fn answer_publish(&self, call: u64, outcome: Outcome) {
        self.answer(call, Answer::Outcome(outcome));
    }
}

/// Serves one socket (`SOCK_SEQPACKET`) until its other end is closed; then finishes the batch.
///
/// A client that breaks the protocol is treated like one that has gone, and then reported.
pub fn serve(socket: OwnedFd, domain: &Domain) -> Result<()> {
    let _lock = domain.lock_shared()?;
    domain.fresh_dir()?;
    let fresh = domain.fresh_path();
    let shared = Shared {
        verity: temporary::has_verity(domain, &fresh),
        domain: domain.clone(),
        temporary_prefix: format!("{fresh}/.tmp-"),
        socket,
        queue: Queue::default(),
        batch: Batch::default(),
        stopping: AtomicBool::new(false),
        images: Mutex::default(),
        usage: AtomicU64::new(0),
        limit: AtomicU64::new(domain.effective_limit(0)?),
        evict_not_before: Mutex::default(),
    };
    let shared = &shared;
    let workers = (0..WORKERS).map(|_| Worker::new(shared)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let (settler, settle) = mpsc::channel();
        let batch = spawn(scope, "keeper-batch", || batch::run(shared));
        let settling = spawn(scope, "keeper-settler", move || reader::settle(shared, &settle));
        let workers: Result<Vec<_>> = workers
            .into_iter()
            .map(|mut worker| spawn(scope, "keeper-worker", move || worker.run()))
            .collect();
        // The reader is what keeps the settler: when it returns there is nothing left to settle.
        let (threads, result) = match (workers, settling, batch) {
            (Ok(mut threads), Ok(settling), Ok(_)) => {
                threads.push(settling);
                (threads, reader::run(shared, settler))
            }
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => (Vec::new(), Err(error)),
        };
        shared.stopping.store(true, Ordering::Relaxed);
        shared.queue.close();
        for thread in threads {
            // A panic is printed by the runtime; what was published stands.
            let _ = thread.join();
        }
        // Only now has everything that was published been added to a batch.
        shared.batch.close();
        result
    })
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, ()>> {
    thread::Builder::new()
        .name(name.into())
        .spawn_scoped(scope, work)
        .map_err(|error| Error::io("start a thread", name, error))
}
