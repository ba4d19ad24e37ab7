//! Bytes that nobody encoded: errors are fine, panics and wrong bytes are not.

mod support;

use erofs_codec::{Codec, Decoder, Want};
use proptest::prelude::*;
use support::{CODECS, DEFLATE, LZMA, data, decode, encode, judge};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_stream_with_changed_bytes_never_panics(
        data in data(60),
        variant in 0..60_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        len in 0..20_000_usize,
    ) {
        let mut used = Decoder::new();
        for codec in CODECS {
            let mut stream = encode(codec, &data, variant);
            for (place, byte) in &changes {
                let place = place.index(stream.len());
                stream[place] = *byte;
            }
            for len in [len, data.len()] {
                let fresh = decode(codec, &stream, len, Want::Whole);
                if let Some(expected) = judge(codec, &stream, len) {
                    // Streams that others bear although they are not sound may be refused.
                    if let Ok(found) = &fresh {
                        prop_assert!(*found == expected, "{codec:?}");
                    }
                }
                // What was decoded before leaves no traces.
                let mut output = vec![0xa5; len];
                let again = used.decode(codec, &stream, &mut output, Want::Whole);
                prop_assert_eq!(again.map(|()| &output), fresh.as_ref().map(|_| fresh.as_ref().unwrap()).map_err(|error| *error));
                let prefix = decode(codec, &stream, len, Want::Prefix);
                if let Ok(whole) = fresh {
                    prop_assert_eq!(prefix, Ok(whole));
                }
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0..3000_usize) {
        for codec in CODECS {
            for want in [Want::Whole, Want::Prefix] {
                let _ = decode(codec, &bytes, len, want);
            }
        }
        // With a good beginning more of it is looked at.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
        frame.extend_from_slice(&bytes);
        let _ = decode(support::ZSTD, &frame, len, Want::Prefix);
        let mut lzma = vec![!0x5d];
        lzma.extend_from_slice(&bytes);
        let _ = decode(LZMA, &lzma, len, Want::Prefix);
    }
}

#[test]
fn a_small_stream_that_claims_much_ends_with_the_output() {
    // 8 EiB of content, a window of 1.9 TiB, and a block of one repeated byte.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x03, 0, 0, 7];
    for want in [Want::Whole, Want::Prefix] {
        assert!(decode(Codec::Zstd { window_log: 23 }, &frame, 100, want).is_err());
    }
    // Matches of 258 at distance 1, for ever.
    let mut stream = vec![0x63];
    stream.resize(1 << 20, 0xff);
    assert!(decode(DEFLATE, &stream, 12 << 20, Want::Whole).is_err());
}
