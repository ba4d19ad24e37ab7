//! The build record: what the tools of this workspace write into the bytes before the superblock.
//!
//! EROFS leaves those bytes to boot code, and nothing reads them or covers them by a checksum. A record is lines of
//! ASCII text, the first of which is [`RECORD_LINE`], up to the first zero. It says how the image's clusters were made,
//! so that a later build knows whether it would make the same.

/// How a record begins.
pub const RECORD_LINE: &str = "pyerofs build 1\n";

/// Bytes that a record may have, from the start of the image on.
pub const RECORD_MAX: usize = 1024;

/// The record in the beginning of an image, if there is one.
pub fn record(beginning: &[u8]) -> Option<&str> {
    let beginning = beginning.get(..RECORD_MAX.min(beginning.len()))?;
    let text = beginning.split(|byte| *byte == 0).next()?;
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    let text = core::str::from_utf8(text).ok()?;
    (text.starts_with(RECORD_LINE) && text.as_bytes().iter().all(is_text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_that_begins_as_a_record_does_is_one() {
        let mut bytes = [0; 2000];
        assert_eq!(record(&bytes), None);
        bytes[..16].copy_from_slice(RECORD_LINE.as_bytes());
        assert_eq!(record(&bytes), Some(RECORD_LINE));
        assert_eq!(record(&bytes[..16]), Some(RECORD_LINE));
        assert_eq!(record(&bytes[..15]), None);
        bytes[20] = 0xff;
        assert_eq!(record(&bytes), Some(RECORD_LINE));
        bytes[16..20].fill(b'x');
        assert_eq!(record(&bytes), None);
        bytes[16..].fill(b'x');
        assert_eq!(record(&bytes).map(str::len), Some(RECORD_MAX));
        assert_eq!(record(&[]), None);
    }
}
