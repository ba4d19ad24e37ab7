//! The steps of a build, one after the other.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};
use crate::excludes::Excludes;
use crate::kernel::KernelVersion;
use crate::options::{BuildOptions, Whiteouts};
use crate::output::Output;
use crate::pack::{Job, Packed, base, pack};
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::report::Report;
use crate::source::{Contents, MAX_SOURCES, ScanJob, Skips, Sources, Watched};
use crate::tree::{Assembled, Kind, Tree, assemble, links, whiteouts};
use crate::xattr::{Filter, Sets};
use crate::{directories, superblock};

/// More threads than this only wait for the writer.
const MAX_THREADS: usize = 16;

/// Builds the image of `sources` into `output` and makes it appear.
///
/// On an error, and when [`BuildOptions::cancel`] is set, nothing appears under the output's name.
pub fn build(
    options: &BuildOptions,
    sources: impl Into<Sources>,
    output: &mut Output<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    build_with(options, sources.into(), output, progress, Plan::new)
}

/// [`build`] with a planner of the caller's.
pub(crate) fn build_with(
    options: &BuildOptions,
    mut sources: Sources,
    output: &mut Output<'_>,
    progress: &dyn Progress,
    planner: impl Fn(&BuildOptions, &Tree, &Sets) -> Result<Plan>,
) -> Result<Report> {
    options.check()?;
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
        .min(MAX_THREADS);

    let mut blob = options.blob.as_ref().map(|path| Output::create(path, false)).transpose()?;
    let mut hidden = output.hidden()?;
    if let Some(blob) = &mut blob {
        blob.set_durable(output.is_durable());
        hidden.extend(blob.hidden()?);
    }

    progress.phase(Phase::Scan, 0, 0);
    let excludes = Excludes::new(&options.excludes, &options.exclude_regexes, hidden)?;
    let skips = Skips::default();
    let job = ScanJob {
        options,
        filter: &Filter::new(options),
        excludes: &excludes,
        progress,
        threads,
        skips: None,
    };
    let mut scanned = scan(&mut sources, &job, options.keep_going.then_some(&skips))?;
    let mut skipped = skips.into_list();
    if options.separate_links {
        links::separate(&mut scanned.tree, &mut scanned.sets);
    }
    if let Some(contexts) = &options.file_contexts {
        contexts.apply(&mut scanned.tree, &mut scanned.sets)?;
    }
    options.check_cancelled()?;

    let watched = Watched::new(&sources);
    if options.keep_going {
        watched.check(options, &scanned.tree, threads)?;
        skipped.extend(watched.remove(&mut scanned.tree, &mut scanned.sets));
    }
    let contents: &dyn Contents = if options.keep_going { &watched } else { &sources };
    let target = output.target();
    let mut base_unused;
    let (plan, mut packed) = loop {
        progress.phase(Phase::Plan, scanned.tree.nodes.len() as u64, 0);
        let plan = planner(options, &scanned.tree, &scanned.sets)?;
        options.check_cancelled()?;

        let files = scanned.tree.nodes.iter().filter(|node| matches!(node.kind, Kind::Regular(_))).count();
        progress.phase(Phase::Pack, files as u64, plan.reads);
        let found = base::open(options, &plan)?;
        let (base, unused) = match &found {
            Some(base::Found::Usable(base)) => (Some(&**base), None),
            Some(base::Found::Unusable(reason)) => (None, Some(reason.clone())),
            None => (None, None),
        };
        base_unused = unused;
        let job = Job { options, contents, tree: &scanned.tree, plan: &plan, progress, base };
        let packed = pack(job, target, blob.as_ref().map(Output::target), threads);
        options.check_cancelled()?;
        match packed {
            Ok(packed) => break (plan, packed),
            Err(error) if !watched.has_any() => return Err(error),
            Err(_) => {
                watched.check(options, &scanned.tree, threads)?;
                skipped.extend(watched.remove(&mut scanned.tree, &mut scanned.sets));
                target.set_len(0)?;
                blob.as_ref().map_or(Ok(()), |blob| blob.target().set_len(0))?;
            }
        }
    };

    progress.phase(Phase::Finish, 0, 0);
    let tree = &scanned.tree;
    let block_size = u64::from(options.block_size);
    let mut head = directories::write(options, &plan, tree, &packed.nids, target, packed.hash.as_mut())?;
    target.write_at(plan.shared_block * block_size, plan.areas.shared())?;
    let mut report = count(options, &scanned, &plan, &packed);
    skipped.sort();
    report.skipped = skipped;
    report.base_unused = base_unused;
    let blob_blocks = packed.devices.last().map_or(0, |device| device.blocks);
    let root_nid = packed.nids.first().copied().unwrap_or_default();
    report.uuid = superblock::write(options, &plan, tree, root_nid, packed, &mut head);
    target.write_at(0, &head)?;
    target.set_len(report.bytes)?;
    options.check_cancelled()?;
    if let Some(blob) = &mut blob {
        blob.finish(blob_blocks * block_size)?;
    }
    let finished = output.finish(report.bytes);
    if let (Err(_), Some(blob)) = (&finished, &mut blob) {
        blob.withdraw();
    }
    finished.map(|()| report)
}

/// Reads all sources and puts them together.
///
/// What the first of them can't read may be left out. An entry left out of a later one would show what lies below
/// it, which is not to be seen.
fn scan(sources: &mut Sources, job: &ScanJob<'_>, skips: Option<&Skips>) -> Result<Assembled> {
    let count = sources.list.len();
    if !(1..=MAX_SOURCES).contains(&count) {
        let reason = format!("{count} sources, there have to be 1 to {MAX_SOURCES}");
        return Err(Error::Option { name: "src", reason });
    }
    let mut layers = Vec::with_capacity(count);
    for (number, source) in sources.list.iter_mut().enumerate() {
        let mut layer = source.scan(&ScanJob { skips: skips.filter(|_| number == 0), ..*job })?;
        if job.options.whiteouts != Whiteouts::Plain {
            whiteouts::interpret(&mut layer, &|name| source.path().join(OsStr::from_bytes(name)))?;
        }
        layers.push((source.path().to_owned(), layer));
    }
    assemble(job.options, layers)
}

fn count(options: &BuildOptions, scanned: &Assembled, plan: &Plan, packed: &Packed) -> Report {
    let tree = &scanned.tree;
    let count = |what: fn(&Kind) -> bool| tree.nodes.iter().filter(|node| what(&node.kind)).count() as u64;
    let block_size = u64::from(options.block_size);
    let oldest = plan.features.iter().map(|feature| feature.since()).max();
    Report {
        inodes: tree.nodes.len() as u64,
        directories: count(|kind| matches!(kind, Kind::Directory { .. })),
        files: count(|kind| matches!(kind, Kind::Regular(_))),
        hard_links: (tree.entries.len() + 1 - tree.nodes.len()) as u64,
        bytes: packed.blocks * block_size,
        metadata_bytes: (packed.blocks - packed.content_blocks) * block_size,
        content_bytes: plan.reads,
        shared_bytes: packed.shared,
        taken_bytes: packed.taken,
        base_unused: None,
        unknown_paths: plan.unknown_paths,
        stored_bytes: packed.content_blocks * block_size,
        fingerprints: tree.nodes.iter().filter(|node| plan.has_fingerprint(node)).count() as u64,
        excluded: scanned.excluded,
        skipped: Vec::new(),
        xattrs_left_out: scanned.xattrs_left_out,
        uuid: options.uuid.unwrap_or_default(),
        build_time: plan.times.built(),
        target_kernel: options.target(),
        oldest_kernel: oldest.unwrap_or(KernelVersion::OLDEST).max(KernelVersion::OLDEST),
        features: plan.features.iter().copied().collect(),
    }
}
