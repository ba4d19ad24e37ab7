//! Streams made by other people's encoders.
#![allow(dead_code, reason = "not every test needs everything")]

use erofs_codec::{Codec, DecodeError, Decoder, Want};
use lzma_rust2::{LzmaOptions, MicroLzmaEncoder};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output};
use proptest::prelude::*;

pub(crate) const LZ4: Codec = Codec::Lz4;
pub(crate) const LZMA: Codec = Codec::Lzma { dict_size: 8 << 20 };
pub(crate) const DEFLATE: Codec = Codec::Deflate { window_bits: 15 };
pub(crate) const ZSTD: Codec = Codec::Zstd { window_log: 23 };
pub(crate) const CODECS: [Codec; 4] = [LZ4, LZMA, DEFLATE, ZSTD];

/// `data` encoded in one of several ways, which `variant` chooses.
pub(crate) fn encode(codec: Codec, data: &[u8], variant: usize) -> Vec<u8> {
    match codec {
        Codec::Lz4 => lz4_flex::block::compress(data),
        Codec::Deflate { .. } => deflate(data, variant),
        Codec::Lzma { .. } => {
            let mut options = LzmaOptions::with_preset([6, 0, 1, 4][variant % 4]);
            (options.lc, options.lp, options.pb) =
                [(3, 0, 2), (0, 4, 0), (2, 2, 4), (4, 0, 1), (1, 3, 3)][variant % 5];
            let mut output = vec![0; data.len() * 2 + 100];
            let mut encoder = MicroLzmaEncoder::new(&options).unwrap();
            let (consumed, written) = encoder.compress_prefix(data, &mut output).unwrap();
            assert_eq!(consumed, data.len());
            output.truncate(written);
            output
        }
        Codec::Zstd { .. } => {
            let mut encoder = zstd::bulk::Compressor::new([3, 1, 19, -5, 9, 13][variant % 6]).unwrap();
            encoder.include_contentsize(variant.is_multiple_of(2)).unwrap();
            encoder.include_checksum(variant.is_multiple_of(3)).unwrap();
            encoder.compress(data).unwrap()
        }
    }
}

fn deflate(data: &[u8], variant: usize) -> Vec<u8> {
    /// Fixed codes only.
    const FIXED: u32 = 0x4_0000;
    /// Stored blocks only.
    const STORED: u32 = 0x8_0000;
    let flags = [128, 1, 1500, 128 | FIXED, STORED, 10][variant % 6];
    let mut output = Vec::new();
    let mut encoder = CompressorOxide::new(flags);
    compress_to_output(&mut encoder, data, TDEFLFlush::Finish, |piece| {
        output.extend_from_slice(piece);
        true
    });
    output
}

/// What another decoder makes of a stream that is to decode to `len` bytes; `None` if it refuses
/// it, or if there is no other decoder that is as strict.
pub(crate) fn judge(codec: Codec, input: &[u8], len: usize) -> Option<Vec<u8>> {
    let output = match codec {
        Codec::Lz4 => lz4_flex::block::decompress(input, len).ok()?,
        Codec::Deflate { .. } => miniz_oxide::inflate::decompress_to_vec_with_limit(input, len).ok()?,
        Codec::Lzma { .. } => return None,
        Codec::Zstd { .. } => zstd::bulk::decompress(input, len).ok()?,
    };
    (output.len() == len).then_some(output)
}

pub(crate) fn decode(codec: Codec, input: &[u8], len: usize, want: Want) -> Result<Vec<u8>, DecodeError> {
    let mut output = vec![0xa5; len];
    Decoder::new().decode(codec, input, &mut output, want)?;
    Ok(output)
}

/// Words, runs, numbers and noise, as files have them.
pub(crate) fn data(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(vec!["the ", "erofs", "int ", "\n    ", "return ", "lib", ".so.6", "0x"])
            .prop_map(|word| word.as_bytes().to_vec()),
        (any::<u8>(), 1..400_usize).prop_map(|(byte, count)| vec![byte; count]),
        (prop::collection::vec(any::<u8>(), 1..20), 1..40_usize)
            .prop_map(|(piece, count)| piece.repeat(count)),
        prop::collection::vec(any::<u8>(), 1..50),
        any::<u32>().prop_map(|number| number.to_string().into_bytes()),
    ];
    prop::collection::vec((word, 0..3_usize), 0..most).prop_map(|words| {
        let mut data = Vec::new();
        for (index, (word, back)) in words.iter().enumerate() {
            data.extend_from_slice(word);
            // Something from before, so that there are matches from afar.
            data.extend_from_slice(&words[index / (back + 1)].0);
        }
        data
    })
}
