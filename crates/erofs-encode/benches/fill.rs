//! How fast clusters are filled, and how well, on real files.
//!
//! `cargo bench -p erofs-encode --bench fill -- [--rounds=N] [--mib=N] [--only=NAME] [DIR...]`, usually
//! /usr/share. Files are taken evenly from all over it and put one after the other. Every way has its turn in
//! each round; the time is that of the thread's processor, of which the least counts. Beside ours:
//!
//! - `search`: for each cluster the largest input that the library compresses into it, found by halving: what
//!   the size is measured against;
//! - `fixed`: input cut into equal pieces, as squashfs does: what the speed is measured against.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use erofs_codec::{Codec, Decoder, Want};
use erofs_encode::{Encoder, Method};

const BLOCK: usize = 4096;

/// Compresses everything: takes the beginning of the input, puts what it makes into the vector, and returns how
/// much it took.
type Step = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> usize>;

struct Way {
    name: String,
    codec: Codec,
    step: Step,
    /// Bytes of a cluster, if it fills clusters.
    cluster: Option<usize>,
    best: Duration,
    best_decoding: Duration,
    bytes: usize,
    blocks: usize,
    pieces: usize,
}

fn ours(method: Method, cluster: usize) -> Way {
    let mut encoder = Encoder::new(method).expect("a method");
    encoder.restart();
    let step = move |input: &[u8], out: &mut Vec<u8>| encoder.fill(input, cluster, out).expect("encoded");
    way("ours", method, Some(cluster), Box::new(step))
}

/// The library's compression of a whole input; the output has room for the worst case.
type Whole = Box<dyn FnMut(&[u8], &mut [u8]) -> usize>;

fn whole(method: Method) -> Option<Whole> {
    match method {
        Method::Zstd { level, .. } => {
            let mut context = zstd_safe::CCtx::create();
            context.set_parameter(zstd_safe::CParameter::CompressionLevel(level)).expect("a level");
            Some(Box::new(move |input, out| context.compress2(out, input).expect("zstd")))
        }
        Method::Deflate { level } => {
            let level = libdeflater::CompressionLvl::new(level).expect("a level");
            let mut compressor = libdeflater::Compressor::new(level);
            Some(Box::new(move |input, out| compressor.deflate_compress(input, out).expect("deflate")))
        }
        Method::Lz4 => Some(Box::new(|input, out| lzzzz::lz4::compress(input, out, 1).expect("lz4"))),
        Method::Lz4Hc { level } => {
            Some(Box::new(move |input, out| lzzzz::lz4_hc::compress(input, out, level).expect("lz4hc")))
        }
        Method::Lzma { .. } => None,
    }
}

fn fixed(method: Method, piece: usize) -> Option<Way> {
    let mut whole = whole(method)?;
    let step = move |input: &[u8], out: &mut Vec<u8>| {
        let piece = &input[..piece.min(input.len())];
        out.resize(2 * piece.len() + 1024, 0);
        let length = whole(piece, out);
        out.truncate(length);
        piece.len()
    };
    Some(way(&format!("fixed {}K", piece >> 10), method, None, Box::new(step)))
}

fn search(method: Method, cluster: usize) -> Option<Way> {
    let mut whole = whole(method)?;
    let mut scratch = Vec::new();
    let step = move |input: &[u8], out: &mut Vec<u8>| {
        let (mut fits, mut too_much) = (0, input.len().min(40 * cluster) + 1);
        let mut next = 4 * cluster;
        while too_much - fits > 1 {
            let length = next.clamp(fits + 1, too_much - 1);
            scratch.resize(2 * length + 1024, 0);
            let made = whole(&input[..length], &mut scratch);
            if made <= cluster {
                fits = length;
                out.clear();
                out.extend_from_slice(&scratch[..made]);
            } else {
                too_much = length;
            }
            next = fits.midpoint(too_much);
        }
        fits
    };
    Some(way("search", method, Some(cluster), Box::new(step)))
}

fn way(name: &str, method: Method, cluster: Option<usize>, step: Step) -> Way {
    let (codec, title) = match method {
        Method::Lz4 => (Codec::Lz4, "lz4".to_owned()),
        Method::Lz4Hc { level } => (Codec::Lz4, format!("lz4hc,{level}")),
        Method::Lzma { level, dict_size } => (Codec::Lzma { dict_size }, format!("lzma,{level}")),
        Method::Deflate { level } => (Codec::Deflate { window_bits: 15 }, format!("deflate,{level}")),
        Method::Zstd { level, .. } => (Codec::Zstd { window_log: 23 }, format!("zstd,{level}")),
    };
    let size = cluster.map_or(String::new(), |cluster| format!("{}K", cluster >> 10));
    Way {
        name: format!("{title:10} {size:>5} {name:11}"),
        codec,
        step,
        cluster,
        best: Duration::MAX,
        best_decoding: Duration::MAX,
        bytes: 0,
        blocks: 0,
        pieces: 0,
    }
}

impl Way {
    fn round(&mut self, input: &[u8], decoder: &mut Decoder) {
        let (mut out, mut decoded) = (Vec::new(), Vec::new());
        let (mut encoding, mut decoding) = (Duration::ZERO, Duration::ZERO);
        (self.bytes, self.blocks, self.pieces) = (0, 0, 0);
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let start = now();
            let read = (self.step)(rest, &mut out);
            let made = now();
            encoding += made.checked_sub(start).unwrap_or_default();
            assert!(read > 0 && out.len() <= self.cluster.unwrap_or(usize::MAX), "{}", self.name);
            decoded.resize(read, 0);
            let start = now();
            decoder.decode(self.codec, &out, &mut decoded, Want::Whole).expect("decoded");
            decoding += now().checked_sub(start).unwrap_or_default();
            assert!(decoded == rest[..read], "{}: other bytes", self.name);
            self.bytes += out.len();
            self.blocks += out.len().div_ceil(BLOCK);
            self.pieces += 1;
            at += read;
        }
        self.best = self.best.min(encoding);
        self.best_decoding = self.best_decoding.min(decoding);
    }
}

/// The time that this thread has spent computing.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn list(path: &Path, files: &mut Vec<PathBuf>) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            list(&entry, files);
        }
    } else if meta.is_file() {
        files.push(path.to_owned());
    }
}

/// Files from all over the trees, about so many bytes.
fn sample(roots: &[PathBuf], bytes: usize) -> Vec<u8> {
    let mut files = Vec::new();
    for root in roots {
        list(root, &mut files);
    }
    let sizes: u64 = files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    // Neighbours are alike, as in an image: runs of 32 files are taken and others left.
    let parts = usize::try_from(sizes).unwrap_or(usize::MAX).div_ceil(bytes).max(1);
    let mut data = Vec::with_capacity(bytes);
    for run in files.chunks(32).step_by(parts) {
        for file in run {
            let Ok(mut content) = std::fs::read(file) else { continue };
            // A single huge one would be most of it.
            content.truncate(bytes / 8);
            data.append(&mut content);
        }
    }
    data.truncate(bytes);
    data
}

fn methods() -> Vec<(Method, Vec<usize>)> {
    let zstd = |level, window_log| Method::Zstd { level, window_log };
    vec![
        (Method::Lz4, vec![4096, 65536]),
        (Method::Lz4Hc { level: 9 }, vec![4096, 65536]),
        (Method::Lz4Hc { level: 12 }, vec![65536]),
        (zstd(3, 15), vec![4096]),
        (zstd(3, 19), vec![65536]),
        (zstd(9, 19), vec![65536]),
        (zstd(3, 20), vec![1 << 20]),
        (Method::Deflate { level: 1 }, vec![65536]),
        (Method::Deflate { level: 6 }, vec![4096, 65536]),
        (Method::Deflate { level: 9 }, vec![65536]),
        (Method::Lzma { level: 6, dict_size: 1 << 15 }, vec![4096]),
        (Method::Lzma { level: 6, dict_size: 1 << 19 }, vec![65536]),
    ]
}

fn main() {
    let (mut rounds, mut mib, mut only, mut roots, mut searches) = (3, 32, String::new(), Vec::new(), true);
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            Some(("--rounds", number)) => rounds = number.parse().expect("a number"),
            Some(("--mib", number)) => mib = number.parse().expect("a number"),
            Some(("--only", name)) => name.clone_into(&mut only),
            Some(("--search", answer)) => searches = answer != "no",
            _ => roots.push(PathBuf::from(argument)),
        }
    }
    if roots.is_empty() {
        roots.push("/usr/share".into());
    }
    let data = sample(&roots, mib << 20);
    println!("{:.1} MB of {roots:?}, thread time, least of {rounds} rounds", mega(data.len()));
    println!("                              encode  decode      bytes   in blocks  wasted/piece   size");
    let mut decoder = Decoder::new();
    for (method, clusters) in methods() {
        let mut ways: Vec<Way> = Vec::new();
        for cluster in clusters {
            ways.push(ours(method, cluster));
            if searches {
                ways.extend(search(method, cluster));
            }
        }
        ways.extend(fixed(method, 128 << 10));
        ways.retain(|way| way.name.contains(&only));
        for round in 0..rounds {
            for way in &mut ways {
                // The search is there for the size.
                if round == 0 || !way.name.contains("search") {
                    way.round(&data, &mut decoder);
                }
            }
        }
        for way in &ways {
            let wasted = way.cluster.map_or(way.blocks * BLOCK, |cluster| way.pieces * cluster) - way.bytes;
            let against =
                ways.iter().find(|other| other.name.contains("search") && other.cluster == way.cluster);
            let against = against.map_or(String::new(), |other| {
                format!("{:+6.2} %", 100.0 * (mega(way.blocks) / mega(other.blocks) - 1.0))
            });
            println!(
                "{}  {:6.1}  {:6.0}  {:9}   {:9}  {:12}  {against}",
                way.name,
                mega(data.len()) / way.best.as_secs_f64(),
                mega(data.len()) / way.best_decoding.as_secs_f64(),
                way.bytes,
                way.blocks * BLOCK,
                wasted / way.pieces,
            );
        }
    }
}

/// Fine for figures that people read.
#[allow(clippy::cast_precision_loss)]
fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
