//! Decodes any bytes with every codec: whole, in part, and with tables that other streams have used.
#![no_main]

use erofs_codec::{Codec, DecodeError, Decoder, Want, skip_padding};
use libfuzzer_sys::fuzz_target;

const CODECS: [Codec; 4] = [
    Codec::Lz4,
    Codec::Lzma { dict_size: 64 << 10 },
    Codec::Deflate { window_bits: 15 },
    Codec::Zstd { window_log: 20 },
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], stream)) = bytes.split_first_chunk() else { return };
    let len = usize::from(u16::from_le_bytes([low, high]));
    let _ = skip_padding(stream, 512);
    let mut used = Decoder::new();
    for codec in CODECS {
        // A frame or a stream only begins as it must if the magic number is not left to chance.
        let mut input = match codec {
            Codec::Zstd { .. } => vec![0x28, 0xb5, 0x2f, 0xfd],
            _ => Vec::new(),
        };
        input.extend_from_slice(stream);
        let whole = decode(&mut Decoder::new(), codec, &input, len, Want::Whole);
        // What was decoded before leaves no traces.
        assert!(decode(&mut used, codec, &input, len, Want::Whole) == whole);
        let prefix = decode(&mut used, codec, &input, len, Want::Prefix);
        if whole.is_ok() {
            assert!(prefix == whole);
        }
        // Less is the beginning of more.
        if let Ok(prefix) = prefix {
            let less = len * 2 / 3;
            assert!(decode(&mut used, codec, &input, less, Want::Prefix).as_deref() == Ok(&prefix[..less]));
        }
    }
});

fn decode(
    decoder: &mut Decoder,
    codec: Codec,
    input: &[u8],
    len: usize,
    want: Want,
) -> Result<Vec<u8>, DecodeError> {
    let mut output = vec![0xa5; len];
    decoder.decode(codec, input, &mut output, want).map(|()| output)
}
