//! Builds an image: `cargo run --release --example build -- SRC IMAGE`. An existing image is replaced.

use std::io::Write;
use std::time::Instant;

use erofs_build::{
    BuildOptions, Compression, CompressionAlgorithm, DataOrder, DirSource, Output, Phase, Progress, Silent,
    build,
};

/// Says when each phase began.
struct Clock(Instant);

impl Progress for Clock {
    fn phase(&self, phase: Phase, files: u64, bytes: u64) {
        let line =
            format!("{:>8.3} s {phase:?} files={files} bytes={bytes}\n", self.0.elapsed().as_secs_f64());
        let _ = std::io::stdout().write_all(line.as_bytes());
    }

    fn advance(&self, files: u64, bytes: u64) {
        Silent.advance(files, bytes);
    }

    fn stored(&self, bytes: u64) {
        Silent.stored(bytes);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: build SRC IMAGE".into());
    };
    let mut options = BuildOptions::default();
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u32>().ok());
    options.inline_tail = number("INLINE_TAIL");
    options.block_size = number("BLOCK_SIZE").unwrap_or(options.block_size);
    options.fingerprint = number("FINGERPRINT") != Some(0);
    options.dedupe = number("DEDUPE") == Some(1);
    options.chunk = number("CHUNK");
    options.align = number("ALIGN");
    options.blob = std::env::var_os("BLOB").map(Into::into);
    options.reuse = std::env::var_os("REUSE").map(Into::into).into_iter().collect();
    options.base = std::env::var_os("BASE").map(Into::into);
    match std::env::var("ORDER").ok().as_deref() {
        Some("similar") => options.order = DataOrder::Similar,
        Some("path") => options.order = DataOrder::Path,
        Some(list) => {
            options.order = DataOrder::Listed(list.split(',').map(|path| path.as_bytes().to_vec()).collect());
        }
        None => {}
    }
    if number("XATTRS") == Some(0) {
        options.xattrs = erofs_build::XattrPolicy::None;
    }
    let algorithm: Option<CompressionAlgorithm> =
        std::env::var("COMPRESS").ok().map(|name| name.parse()).transpose()?;
    options.compression = algorithm.map(|algorithm| Compression {
        level: number("LEVEL").and_then(|level| i32::try_from(level).ok()),
        cluster: number("CLUSTER").unwrap_or(65536),
        fragments: number("FRAGMENTS") != Some(0),
        inline: number("INLINE") == Some(1),
        dense: number("DENSE").map(|dense| dense == 1),
        ..Compression::new(algorithm)
    });
    options.metabox = number("METABOX");
    let mut output = Output::create(image, true)?;
    output.set_durable(number("DURABLE") != Some(0));
    let clock = Clock(Instant::now());
    let report = build(&options, DirSource::open(source)?, &mut output, &clock)?;
    writeln!(std::io::stdout(), "{:>8.3} s done\n{report:#?}", clock.0.elapsed().as_secs_f64())?;
    Ok(())
}
