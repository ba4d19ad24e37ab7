//! What other encoders write is decoded exactly, whole or up to any length.

mod support;

use erofs_codec::{DecodeError, Decoder, Want, skip_padding};
use proptest::prelude::*;
use support::{CODECS, LZMA, ZSTD, data, decode, encode};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_stream_decodes_to_what_was_encoded(data in data(300), variant in 0..60_usize) {
        let mut decoder = Decoder::new();
        for codec in CODECS {
            let stream = encode(codec, &data, variant);
            let mut output = vec![0xa5; data.len()];
            decoder.decode(codec, &stream, &mut output, Want::Whole).unwrap();
            prop_assert!(output == data, "{codec:?}");
        }
    }

    #[test]
    fn a_prefix_of_every_length_is_exact(data in data(12), variant in 0..60_usize) {
        for codec in CODECS {
            let stream = encode(codec, &data, variant);
            for len in 0..=data.len() {
                prop_assert_eq!(&decode(codec, &stream, len, Want::Prefix).unwrap(), &data[..len]);
            }
            // MicroLZMA alone does not say where it ends.
            let longer = decode(codec, &stream, data.len() + 1, Want::Prefix);
            prop_assert!(longer.is_err() || codec == LZMA, "{codec:?}");
        }
    }

    #[test]
    fn a_stream_of_another_length_is_refused(data in data(40), variant in 0..60_usize, other in 0..40_000_usize) {
        for codec in CODECS {
            let stream = encode(codec, &data, variant);
            for len in [other, data.len() + 1, data.len().wrapping_sub(1).min(other)] {
                if len != data.len() {
                    let result = decode(codec, &stream, len, Want::Whole);
                    prop_assert!(result.is_err(), "{codec:?} {len} instead of {}", data.len());
                }
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_refused_or_gives_a_true_prefix(data in data(12), variant in 0..60_usize) {
        for codec in CODECS {
            let stream = encode(codec, &data, variant);
            for end in 0..stream.len() {
                let whole = decode(codec, &stream[..end], data.len(), Want::Whole);
                prop_assert!(whole.is_err(), "{codec:?} {end} of {}", stream.len());
                let len = data.len() * end / stream.len();
                if let Ok(prefix) = decode(codec, &stream[..end], len, Want::Prefix) {
                    prop_assert_eq!(&prefix, &data[..len], "{:?}", codec);
                }
            }
        }
    }
}

#[test]
fn long_data_decodes_in_all_variants() {
    // Larger than every window, buffer and block that a decoder could have.
    let mut data = Vec::new();
    let mut number = 1_u64;
    while data.len() < 700_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let start = (number >> 40) as usize % data.len().max(1);
        let end = (start + (number >> 33) as usize % 90).min(data.len());
        data.extend_from_within(start..end);
        data.extend_from_slice(&number.to_le_bytes()[5..5 + (number >> 62) as usize]);
    }
    for codec in CODECS {
        for variant in 0..6 {
            let stream = encode(codec, &data, variant);
            assert!(decode(codec, &stream, data.len(), Want::Whole).unwrap() == data, "{codec:?} {variant}");
            assert!(decode(codec, &stream, 400_001, Want::Prefix).unwrap() == data[..400_001]);
        }
    }
}

#[test]
fn a_match_from_beyond_the_dictionary_is_refused() {
    let noise: Vec<u8> =
        (0..9000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let data = noise.repeat(2);
    let stream = encode(LZMA, &data, 0);
    let small = erofs_codec::Codec::Lzma { dict_size: 8192 };
    let result = decode(small, &stream, data.len(), Want::Whole);
    assert!(matches!(result, Err(DecodeError::Distance { distance: 9000, .. })), "{result:?}");
}

#[test]
fn a_window_above_the_declared_is_refused() {
    let data = vec![7; 300_000];
    let stream = encode(ZSTD, &data, 0);
    let small = erofs_codec::Codec::Zstd { window_log: 18 };
    assert_eq!(
        decode(small, &stream, data.len(), Want::Whole),
        Err(DecodeError::Window { claimed: 300_000, allowed: 1 << 18 })
    );
}

#[test]
fn a_wrong_checksum_is_noticed() {
    let mut stream = encode(ZSTD, b"checked, checked", 0);
    *stream.last_mut().unwrap() ^= 1;
    assert_eq!(decode(ZSTD, &stream, 16, Want::Whole), Err(DecodeError::Checksum));
}

#[test]
fn padding_is_skipped_within_the_first_block_only() {
    let mut cluster = vec![0; 8192];
    assert_eq!(skip_padding(&cluster, 4096), Err(DecodeError::OnlyPadding));
    cluster[5000] = 1;
    assert_eq!(skip_padding(&cluster, 4096), Err(DecodeError::OnlyPadding));
    cluster[4095] = 9;
    assert_eq!(skip_padding(&cluster, 4096).unwrap().len(), 4097);
    assert_eq!(skip_padding(&[], 4096), Err(DecodeError::OnlyPadding));
}
