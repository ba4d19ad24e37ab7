//! SHA-256 digests and the object names made of them.

use std::fmt;

/// The SHA-256 of a file's bytes: the name of an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`Digest::to_hex`] wrote; nothing else.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }

    /// The object's path below `objects/` or `fresh/BOOT_ID/`: `ab/cdef...`, 65 bytes.
    pub fn object_path(&self) -> String {
        let mut path = self.to_hex();
        path.insert(2, '/');
        path
    }

    /// Reads an object's name back from its directory's two digits and the other 62.
    pub(crate) fn from_object_path(directory: &[u8], name: &[u8]) -> Option<Self> {
        if directory.len() != 2 || name.len() != 62 {
            return None;
        }
        let text = [directory, name].concat();
        Self::from_hex(std::str::from_utf8(&text).ok()?)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2 + 1);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of exactly 64 lower-case hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_again_by_its_name() {
        let digest = Digest(std::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        let path = digest.object_path();
        assert_eq!(path.len(), 65);
        let (directory, name) = path.split_once('/').unwrap();
        assert_eq!(Digest::from_object_path(directory.as_bytes(), name.as_bytes()), Some(digest));
        assert_eq!(Digest::from_hex(&digest.to_hex()), Some(digest));
    }

    #[test]
    fn other_spellings_name_no_object() {
        let upper = "AB".repeat(32);
        assert_eq!(Digest::from_hex(&upper), None);
        assert_eq!(Digest::from_hex(&"ab".repeat(31)), None);
        assert_eq!(Digest::from_hex(&"ab".repeat(33)), None);
        assert_eq!(Digest::from_hex(&"g0".repeat(32)), None);
    }
}
