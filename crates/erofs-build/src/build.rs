//! The steps of a build, one after the other.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};
use crate::excludes::{Excludes, Hidden};
use crate::kernel::KernelVersion;
use crate::options::{BuildOptions, Whiteouts};
use crate::output::{Output, Target};
use crate::pack::{Job, Packed, base, pack};
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::report::Report;
use crate::source::{Contents, MAX_SOURCES, ScanJob, Skipped, Skips, Sources, Watched};
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
    let mut blob = options.blob.as_ref().map(|path| Output::create(path, false)).transpose()?;
    let mut hidden = output.hidden()?;
    if let Some(blob) = &mut blob {
        blob.set_durable(output.is_durable());
        hidden.extend(blob.hidden()?);
    }
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok());
    let build = Build {
        options,
        progress,
        threads: threads.map_or(1, NonZeroUsize::get).min(MAX_THREADS),
        image: output.target(),
        blob: blob.as_ref().map(Output::target),
    };
    let mut input = build.read(&mut sources, hidden)?;
    options.check_cancelled()?;
    let filled = build.put_contents(&sources, &mut input, planner)?;
    let blob_blocks = filled.packed.devices.last().map_or(0, |device| device.blocks);
    progress.phase(Phase::Finish, 0, 0);
    let report = build.put_the_rest(input, filled)?;
    options.check_cancelled()?;
    if let Some(blob) = &mut blob {
        blob.finish(blob_blocks * u64::from(options.block_size), || true)?;
    }
    let finished = output.finish(report.bytes, || progress.may_appear());
    if let (Err(_), Some(blob)) = (&finished, &mut blob) {
        blob.withdraw();
    }
    finished.map(|()| report)
}

/// What all steps of a build need.
struct Build<'a> {
    options: &'a BuildOptions,
    progress: &'a dyn Progress,
    threads: usize,
    image: &'a Target,
    blob: Option<&'a Target>,
}

/// What the sources say, as the options want it.
struct Input {
    scanned: Assembled,
    skipped: Vec<Skipped>,
}

/// An image that has its contents.
struct Filled {
    plan: Plan,
    packed: Packed,
    /// Why nothing could be taken from the base that was given.
    base_unused: Option<String>,
}

impl Build<'_> {
    /// Reads what the sources have, but for the contents of files.
    fn read(&self, sources: &mut Sources, hidden: Vec<Hidden>) -> Result<Input> {
        let options = self.options;
        self.progress.phase(Phase::Scan, 0, 0);
        let excludes = Excludes::new(&options.excludes, &options.exclude_regexes, hidden)?;
        let skips = Skips::default();
        let job = ScanJob {
            options,
            filter: &Filter::new(options),
            excludes: &excludes,
            progress: self.progress,
            threads: self.threads,
            skips: None,
        };
        let mut scanned = scan(sources, &job, options.keep_going.then_some(&skips))?;
        if options.separate_links {
            links::separate(&mut scanned.tree, &mut scanned.sets);
        }
        if let Some(contexts) = &options.file_contexts {
            contexts.apply(&mut scanned.tree, &mut scanned.sets)?;
        }
        Ok(Input { scanned, skipped: skips.into_list() })
    }

    /// Puts contents and inodes into the image: again without them if files can't be read and may be left out.
    fn put_contents(
        &self,
        sources: &Sources,
        input: &mut Input,
        planner: impl Fn(&BuildOptions, &Tree, &Sets) -> Result<Plan>,
    ) -> Result<Filled> {
        let Self { options, progress, threads, image, blob } = *self;
        let Input { scanned: Assembled { tree, sets, .. }, skipped } = input;
        let watched = Watched::new(sources);
        if options.keep_going {
            watched.check(options, tree, threads)?;
            skipped.extend(watched.remove(tree, sets));
        }
        let contents: &dyn Contents = if options.keep_going { &watched } else { sources };
        loop {
            progress.phase(Phase::Plan, tree.nodes.len() as u64, 0);
            let plan = planner(options, tree, sets)?;
            options.check_cancelled()?;

            let files = tree.nodes.iter().filter(|node| matches!(node.kind, Kind::Regular(_))).count();
            progress.phase(Phase::Pack, files as u64, plan.reads);
            let (base, base_unused) = match base::open(options, &plan)? {
                Some(base::Found::Usable(base)) => (Some(base), None),
                Some(base::Found::Unusable(reason)) => (None, Some(reason)),
                None => (None, None),
            };
            let job = Job { options, contents, tree, plan: &plan, progress, base: base.as_deref() };
            let packed = pack(job, image, blob, threads);
            options.check_cancelled()?;
            match packed {
                Ok(packed) => return Ok(Filled { plan, packed, base_unused }),
                Err(error) if !watched.has_any() => return Err(error),
                Err(_) => {
                    watched.check(options, tree, threads)?;
                    skipped.extend(watched.remove(tree, sets));
                    image.set_len(0)?;
                    blob.map_or(Ok(()), |blob| blob.set_len(0))?;
                }
            }
        }
    }

    /// Puts what says where everything is into the image: directories, shared xattrs, and the superblock.
    fn put_the_rest(&self, input: Input, mut filled: Filled) -> Result<Report> {
        let Self { options, image, .. } = *self;
        let Filled { plan, packed, .. } = &mut filled;
        let tree = &input.scanned.tree;
        let mut head = directories::write(options, plan, tree, &packed.nids, image, packed.hash.as_mut())?;
        image.write_at(plan.shared_block * u64::from(options.block_size), plan.areas.shared())?;
        let uuid = superblock::write(options, plan, tree, packed, &mut head);
        image.write_at(0, &head)?;
        let report = report(options, input, filled, uuid);
        image.set_len(report.bytes)?;
        Ok(report)
    }
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

fn report(options: &BuildOptions, input: Input, filled: Filled, uuid: [u8; 16]) -> Report {
    let Input { scanned, mut skipped } = input;
    let Filled { plan, packed, base_unused } = filled;
    let tree = &scanned.tree;
    let count = |what: fn(&Kind) -> bool| tree.nodes.iter().filter(|node| what(&node.kind)).count() as u64;
    let block_size = u64::from(options.block_size);
    let oldest = plan.features.iter().map(|feature| feature.since()).max();
    skipped.sort();
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
        base_unused,
        unknown_paths: plan.unknown_paths,
        stored_bytes: packed.content_blocks * block_size,
        fingerprints: tree.nodes.iter().filter(|node| plan.has_fingerprint(node)).count() as u64,
        excluded: scanned.excluded,
        skipped,
        xattrs_left_out: scanned.xattrs_left_out,
        uuid,
        build_time: plan.times.built(),
        target_kernel: options.target(),
        oldest_kernel: oldest.unwrap_or(KernelVersion::OLDEST).max(KernelVersion::OLDEST),
        features: plan.features.iter().copied().collect(),
    }
}
