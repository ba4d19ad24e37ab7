//! The threads that read: one producer, and workers that take its jobs in order.

use crossbeam_channel::bounded;
use erofs_image::Scratch;

/// Jobs that wait for a thread, for each thread: enough that none runs dry, few enough that what they hold
/// (descriptors of directories and of large files) stays bounded.
const WAITING: usize = 8;

/// Runs `produce` here, and `work` for every job that it hands over, on `threads` threads; with one thread
/// each job is done at once, here. Returns when all jobs are done.
pub(crate) fn run<J: Send, R>(
    threads: usize,
    work: impl Fn(J, &mut Scratch) + Sync,
    produce: impl FnOnce(&mut dyn FnMut(J)) -> R,
) -> R {
    if threads <= 1 {
        let mut scratch = Scratch::new();
        return produce(&mut |job| work(job, &mut scratch));
    }
    let (give, take) = bounded::<J>(threads * WAITING);
    let work = &work;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let take = take.clone();
            scope.spawn(move || {
                let mut scratch = Scratch::new();
                for job in &take {
                    work(job, &mut scratch);
                }
            });
        }
        drop(take);
        let made = produce(&mut |job| {
            // It fails only when every worker has panicked, and then the scope passes that on.
            let _ = give.send(job);
        });
        drop(give);
        made
    })
}
