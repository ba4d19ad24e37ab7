//! What encoders make is decoded by our decoders, and is as large as it may be.

use erofs_codec::{Codec, Decoder, Want};
use erofs_encode::{Encoder, MAX_CAPACITY, Method};
use proptest::prelude::*;

const METHODS: [Method; 9] = [
    Method::Lz4,
    Method::Lz4Hc { level: 9 },
    Method::Lzma { level: 1, dict_size: 1 << 20 },
    Method::Deflate { level: 1 },
    Method::Deflate { level: 9 },
    Method::Zstd { level: 1, window_log: 20 },
    Method::Zstd { level: 3, window_log: 15 },
    Method::Zstd { level: 12, window_log: 20 },
    Method::Zstd { level: 19, window_log: 20 },
];

fn codec(method: Method) -> Codec {
    match method {
        Method::Lz4 | Method::Lz4Hc { .. } => Codec::Lz4,
        Method::Lzma { dict_size, .. } => Codec::Lzma { dict_size },
        Method::Deflate { .. } => Codec::Deflate { window_bits: 15 },
        Method::Zstd { window_log, .. } => Codec::Zstd { window_log: u8::try_from(window_log).unwrap() },
    }
}

/// Decodes by the C libraries, of which Linux has copies. They insist on more than we do.
fn decode_elsewhere(method: Method, stream: &[u8], output: &mut [u8]) {
    output.fill(0);
    let length = match method {
        Method::Lz4 | Method::Lz4Hc { .. } => lzzzz::lz4::decompress(stream, output).unwrap(),
        Method::Lzma { .. } => return decode(method, stream, output),
        Method::Deflate { .. } => {
            libdeflater::Decompressor::new().deflate_decompress(stream, output).unwrap()
        }
        Method::Zstd { .. } => zstd_safe::decompress(output, stream).unwrap(),
    };
    assert_eq!(length, output.len(), "{method:?}");
}

fn decode(method: Method, stream: &[u8], output: &mut [u8]) {
    Decoder::new().decode(codec(method), stream, output, Want::Whole).unwrap();
}

/// Fills clusters until the input is used up; returns their lengths.
fn fill_all(method: Method, input: &[u8], capacity: usize) -> Vec<usize> {
    let mut encoder = Encoder::new(method).unwrap();
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut lengths = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let read = encoder.fill(&input[at..], capacity, &mut out).unwrap();
        assert!(read > 0 && out.len() <= capacity, "{method:?} {read} {}", out.len());
        assert_ne!(out[0], 0, "{method:?}: what begins with zero can't be told from padding");
        let mut decoded = vec![0; read];
        decoder.decode(codec(method), &out, &mut decoded, Want::Whole).unwrap();
        assert!(decoded == input[at..at + read], "{method:?} at {at}");
        decode_elsewhere(method, &out, &mut decoded);
        assert!(decoded == input[at..at + read], "{method:?} at {at}, by a decoder that is not ours");
        lengths.push(out.len());
        at += read;
    }
    lengths
}

/// Words of a small language: compressible, but not by one long match.
fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let words: Vec<Vec<u8>> = (0..900)
        .map(|_| (0..2 + next(9)).map(|_| b'a' + u8::try_from(next(26)).unwrap()).collect())
        .collect();
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        let word = usize::try_from(next(30) * next(30)).unwrap();
        text.extend_from_slice(&words[word]);
        text.push(b" \n,"[usize::try_from(next(3)).unwrap()]);
    }
    text.truncate(length);
    text
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn clusters_are_full_but_the_last_one() {
    let input = text(1_500_000, 7);
    for method in METHODS {
        for capacity in [4096, 65536] {
            let lengths = fill_all(method, &input, capacity);
            let (_, full) = lengths.split_last().unwrap();
            assert!(full.len() > 3);
            for length in full {
                assert!(capacity - length < 64, "{method:?}: {length} of {capacity}");
            }
        }
    }
}

#[test]
fn streams_can_be_cut_at_any_length() {
    // Text, noise and runs one after the other: blocks of every kind, in codes of their own and of others.
    let mut input = text(30_000, 11);
    input.extend(noise(900, 5));
    input.extend(vec![7; 3000]);
    input.extend(text(9000, 12));
    for method in [Method::Deflate { level: 6 }, Method::Zstd { level: 3, window_log: 15 }] {
        let mut encoder = Encoder::new(method).unwrap();
        let mut out = Vec::new();
        for capacity in (512..16_000).step_by(13) {
            let read = encoder.fill(&input, capacity, &mut out).unwrap();
            assert!(
                out.len() <= capacity && (read == input.len() || capacity - out.len() < 80),
                "{capacity}"
            );
            let mut decoded = vec![0; read];
            decode(method, &out, &mut decoded);
            assert!(decoded == input[..read], "{method:?} {capacity}");
            decode_elsewhere(method, &out, &mut decoded);
            assert!(decoded == input[..read], "{method:?} {capacity}, by a decoder that is not ours");
        }
    }
}

#[test]
fn noise_zeros_and_both_by_turns_are_encoded_too() {
    let zeros = vec![0; 300_000];
    let mixed: Vec<u8> = (0..40)
        .flat_map(
            |turn| {
                if turn % 2 == 0 { noise(7000, turn) } else { vec![u8::try_from(turn).unwrap(); 7000] }
            },
        )
        .collect();
    for method in METHODS {
        for input in [&zeros, &noise(200_000, 3), &mixed] {
            fill_all(method, input, 4096);
            fill_all(method, input, 65536);
        }
    }
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    let input = text(400_000, 9);
    for method in METHODS {
        let mut encoder = Encoder::new(method).unwrap();
        let mut out = Vec::new();
        let mut made = |encoder: &mut Encoder| {
            encoder.restart();
            let mut all = Vec::new();
            let mut at = 0;
            while at < input.len() {
                at += encoder.fill(&input[at..], 16384, &mut out).unwrap();
                all.extend_from_slice(&out);
            }
            all
        };
        let first = made(&mut encoder);
        assert!(first == made(&mut encoder), "{method:?}");
        assert!(first == made(&mut Encoder::new(method).unwrap()), "{method:?}");
    }
}

#[test]
fn what_a_method_does_not_have_is_refused() {
    for method in [
        Method::Lz4Hc { level: 13 },
        Method::Lzma { level: 10, dict_size: 1 << 20 },
        Method::Lzma { level: 1, dict_size: 1 << 30 },
        Method::Deflate { level: 13 },
        Method::Zstd { level: 23, window_log: 15 },
        Method::Zstd { level: 3, window_log: 21 },
    ] {
        assert!(Encoder::new(method).is_err(), "{method:?}");
    }
    let mut encoder = Encoder::new(Method::Lz4).unwrap();
    let mut out = Vec::new();
    assert!(encoder.fill(b"x", 511, &mut out).is_err());
    assert!(encoder.fill(b"x", MAX_CAPACITY + 1, &mut out).is_err());
    assert_eq!(encoder.fill(b"", 4096, &mut out), Ok(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_input_comes_back(
        pieces in prop::collection::vec((any::<u64>(), 0usize..9000, 0u8..3), 1..12),
        capacity in 1usize..40,
        method in 0usize..METHODS.len(),
    ) {
        let input: Vec<u8> = pieces.iter().flat_map(|&(seed, length, kind)| match kind {
            0 => noise(length, seed),
            1 => text(length, seed),
            _ => vec![(seed & 255) as u8; length],
        }).collect();
        fill_all(METHODS[method], &input, capacity * 512);
    }
}
