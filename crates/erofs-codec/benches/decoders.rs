//! Our decoders beside those that could be used instead, on the same streams: what other people's
//! encoders make of 256 KiB at a time. One thread, all decoders in turn; the sum of each stream's best
//! time of some rounds, so that other work on the machine matters little.
//!
//! `cargo bench -p erofs-codec --bench decoders -- FILE...`; without a file, of its own executable.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read;
use std::time::{Duration, Instant};

use erofs_codec::{Codec, Decoder, Want};
use lzma_rust2::LzmaReader;
use support::{DEFLATE, LZ4, LZMA, ZSTD, encode};
use zune_inflate::{DeflateDecoder, DeflateOptions};

const CLUSTER: usize = 256 << 10;
/// Encoding so much takes some seconds.
const MOST: usize = 12 << 20;
const ROUNDS: usize = 9;

/// Fills the output from the stream.
type Decode = Box<dyn FnMut(&[u8], &mut [u8])>;

fn ours(codec: Codec) -> Decode {
    let mut decoder = Decoder::new();
    Box::new(move |stream, output| decoder.decode(codec, stream, output, Want::Whole).expect("our decoder"))
}

fn contenders() -> Vec<(Codec, &'static str, Decode)> {
    vec![
        (LZ4, "ours", ours(LZ4)),
        (
            LZ4,
            "lz4_flex",
            Box::new(|stream, output| {
                lz4_flex::block::decompress_into(stream, output).expect("lz4_flex");
            }),
        ),
        (DEFLATE, "ours", ours(DEFLATE)),
        (
            DEFLATE,
            "zune-inflate",
            Box::new(|stream, output| {
                let options =
                    DeflateOptions::default().set_size_hint(output.len()).set_limit(output.len() + 1024);
                let bytes = DeflateDecoder::new_with_options(stream, options).decode_deflate();
                output.copy_from_slice(&bytes.expect("zune-inflate"));
            }),
        ),
        (
            DEFLATE,
            "miniz_oxide",
            Box::new(|stream, output| {
                miniz_oxide::inflate::decompress_slice_iter_to_slice(
                    output,
                    [stream].into_iter(),
                    false,
                    true,
                )
                .expect("miniz_oxide");
            }),
        ),
        (LZMA, "ours", ours(LZMA)),
        (
            LZMA,
            "lzma-rust2",
            Box::new(|stream, output| {
                // MicroLZMA is LZMA whose first byte, always 0, holds the properties inverted.
                let (properties, rest) = stream.split_first().expect("a stream");
                let input = [0].chain(rest);
                LzmaReader::new_with_props(input, output.len() as u64, !properties, 8 << 20, None)
                    .and_then(|mut reader| reader.read_exact(output))
                    .expect("lzma-rust2");
            }),
        ),
        (ZSTD, "ours", ours(ZSTD)),
        (ZSTD, "libzstd (C)", {
            let mut context = zstd::bulk::Decompressor::new().expect("libzstd");
            Box::new(move |stream, output| {
                context.decompress_to_buffer(stream, output).expect("libzstd");
            })
        }),
    ]
}

fn main() {
    let mut paths: Vec<_> =
        std::env::args_os().skip(1).filter(|arg| !arg.as_encoded_bytes().starts_with(b"--")).collect();
    if paths.is_empty() {
        paths.push(std::env::current_exe().expect("a path").into());
    }
    let mut data = Vec::new();
    for path in paths {
        data.extend(std::fs::read(path).expect("a file"));
    }
    data.truncate(MOST);
    println!("{:.1} MB", mega(data.len()));
    let mut contenders = contenders();
    for codec in [LZ4, DEFLATE, LZMA, ZSTD] {
        let streams: Vec<_> = data.chunks(CLUSTER).map(|chunk| (encode(codec, chunk, 0), chunk)).collect();
        let ratio = mega(data.len()) / mega(streams.iter().map(|(stream, _)| stream.len()).sum());
        let mut best = vec![vec![Duration::MAX; streams.len()]; contenders.len()];
        let mut output = vec![0; CLUSTER];
        for _ in 0..ROUNDS {
            for ((of, name, decode), best) in contenders.iter_mut().zip(&mut best) {
                if *of != codec {
                    continue;
                }
                for ((stream, chunk), best) in streams.iter().zip(best) {
                    let output = &mut output[..chunk.len()];
                    let start = Instant::now();
                    decode(stream, output);
                    *best = start.elapsed().min(*best);
                    assert!(output == *chunk, "{name} gives other bytes");
                }
            }
        }
        for ((_, name, _), best) in contenders.iter().zip(best).filter(|((of, ..), _)| *of == codec) {
            let rate = mega(data.len()) / best.iter().sum::<Duration>().as_secs_f64();
            println!("{:8} 1:{ratio:.2}  {name:14} {rate:6.0} MB/s", title(codec));
        }
    }
}

fn title(codec: Codec) -> &'static str {
    match codec {
        Codec::Lz4 => "lz4",
        Codec::Lzma { .. } => "lzma",
        Codec::Deflate { .. } => "deflate",
        Codec::Zstd { .. } => "zstd",
    }
}

/// Fine for figures that people read.
#[allow(clippy::cast_precision_loss)]
fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
