//! Reading everything, and writing nothing: does every file of an image read?

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use erofs_image::{Image, Piece, Scratch};

use crate::context::Context;
use crate::cuts::{CUT, Cuts};
use crate::error::{Error, Result};
use crate::links::{Links, Meet};
use crate::options::ExtractOptions;
use crate::pool;
use crate::report::{Observer, Report};
use crate::select::{Selection, Step};

/// Entries that a thread checks in one go.
const BATCH: usize = 64;
/// Bytes of content that a thread reads in one go.
const BATCH_BYTES: u64 = 1 << 20;

/// Reads and decodes everything in `image`, or what `options` choose of it: names, attributes, targets of
/// links and the content of files.
pub fn verify(image: &Image, options: &ExtractOptions, observer: &dyn Observer) -> Result<Report> {
    let mut selection = Selection::new(image, options)?;
    let context = Context::new(image, options, observer);
    let threads = options.thread_count();
    pool::run(
        threads,
        |job, scratch| work(&context, job, scratch),
        |give| walk(&context, &mut selection, threads, give),
    );
    context.finish(selection.left_out())
}

enum Job {
    Batch(Vec<Step>),
    Part(Arc<Large>, Range<u64>),
}

/// A large file that several threads read. Who is last to let it go counts it.
struct Large {
    step: Step,
    bad: AtomicBool,
}

fn walk(context: &Context<'_>, selection: &mut Selection<'_>, threads: usize, give: &mut dyn FnMut(Job)) {
    let links = Links::<()>::new();
    let (mut batch, mut bytes) = (Vec::new(), 0_u64);
    for step in context.steps(selection) {
        match links.meet(&step, &(), &mut Vec::new()) {
            Meet::Single => {}
            // Whether it reads is said once; its other names need no more looking at.
            Meet::First => drop(links.settle(step.inode.nid, true, &mut Vec::new())),
            Meet::Waits | Meet::Full | Meet::Made(..) | Meet::Lost(_) => {
                context.count_link();
                context.advance(1, 0);
                continue;
            }
        }
        if threads > 1 && step.inode.is_file() && step.inode.size >= 2 * CUT {
            cut_up(context, step, give);
            continue;
        }
        bytes = bytes.saturating_add(step.inode.size);
        batch.push(step);
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            bytes = 0;
            give(Job::Batch(std::mem::take(&mut batch)));
        }
    }
    give(Job::Batch(batch));
}

fn cut_up(context: &Context<'_>, step: Step, give: &mut dyn FnMut(Job)) {
    if let Err(error) = check_attributes(context, &step) {
        context.fail(error);
        return;
    }
    let inode = step.inode;
    let large = Arc::new(Large { step, bad: AtomicBool::new(false) });
    for cut in Cuts::new(context.image, &inode, 0..inode.size) {
        // What a bad file claims to have further on is not worth the time: it may be any number of bytes.
        if context.stopped() || large.bad.load(Ordering::Relaxed) {
            break;
        }
        match cut {
            Ok(cut) if cut.is_hole => {}
            Ok(cut) => give(Job::Part(Arc::clone(&large), cut.range)),
            Err(error) => spoil(context, &large, Error::image(&large.step.path)(error)),
        }
    }
    end_part(context, large);
}

fn work(context: &Context<'_>, job: Job, scratch: &mut Scratch) {
    match job {
        Job::Batch(steps) => {
            for step in steps {
                if context.stopped() {
                    return;
                }
                match check(context, &step, scratch) {
                    Ok(()) => {
                        context.count(step.inode.file_type());
                        context.advance(1, 0);
                    }
                    Err(error) => context.fail(error),
                }
            }
        }
        Job::Part(large, range) => {
            if !large.bad.load(Ordering::Relaxed)
                && let Err(error) = check_range(context, &large.step, range, scratch)
            {
                spoil(context, &large, error);
            }
            end_part(context, large);
        }
    }
}

fn spoil(context: &Context<'_>, large: &Large, error: Error) {
    if !large.bad.swap(true, Ordering::Relaxed) {
        context.fail(error);
    }
}

fn end_part(context: &Context<'_>, large: Arc<Large>) {
    if let Some(large) = Arc::into_inner(large)
        && !large.bad.into_inner()
    {
        context.count(large.step.inode.file_type());
        context.advance(1, 0);
    }
}

fn check(context: &Context<'_>, step: &Step, scratch: &mut Scratch) -> Result<()> {
    check_attributes(context, step)?;
    if step.inode.is_symlink() {
        context.image.read_link(&step.inode).map_err(Error::image(&step.path))?;
    } else if step.inode.is_file() {
        check_range(context, step, 0..step.inode.size, scratch)?;
    }
    Ok(())
}

fn check_attributes(context: &Context<'_>, step: &Step) -> Result<()> {
    if context.options.xattrs {
        context.image.xattrs(&step.inode).map_err(Error::image(&step.path))?;
    }
    Ok(())
}

fn check_range(context: &Context<'_>, step: &Step, range: Range<u64>, scratch: &mut Scratch) -> Result<()> {
    let mut bytes = 0;
    let read = context.image.for_each_piece(&step.inode, range, scratch, &mut |_, piece| {
        if let Piece::Data(data) = piece {
            bytes += data.len() as u64;
        }
        if context.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    context.advance(0, bytes);
    read.map_err(Error::image(&step.path))
}
