//! The 512-byte header of a tar member.

use super::Problem;

pub(super) const BLOCK: usize = 512;

/// A header as it stands; what extended headers say comes over it.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) major: u64,
    pub(super) minor: u64,
}

/// One field of the block.
pub(super) fn field(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    block.get(at..at + length).unwrap_or_default()
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, Problem> {
        let stated = number(field(block, 148, 8), "checksum")?;
        let sums = |byte: fn(u8) -> i64| -> i64 {
            let counted =
                |(at, value): (usize, &u8)| byte(if (148..156).contains(&at) { b' ' } else { *value });
            block.iter().enumerate().map(counted).sum()
        };
        // Old programs added signed bytes up.
        if sums(i64::from) != stated && sums(|byte| i64::from(byte.cast_signed())) != stated {
            return Err(Problem::new("a header's checksum is wrong"));
        }
        let positive = |at, length, what| {
            u64::try_from(number(field(block, at, length), what)?)
                .map_err(|_| Problem::Text(format!("the {what} of a member is negative")))
        };
        let is_ustar = field(block, 257, 6) == b"ustar\0";
        let mut name = text(field(block, 0, 100)).to_vec();
        if is_ustar {
            // xstar keeps times behind a shorter prefix.
            let is_xstar = field(block, 508, 4) == b"tar\0";
            let prefix = text(field(block, 345, if is_xstar { 131 } else { 155 }));
            if !prefix.is_empty() {
                name = [prefix, b"/", &name].concat();
            }
        }
        let kind = field(block, 156, 1).first().copied().unwrap_or(0);
        let is_device = matches!(kind, b'3' | b'4');
        Ok(Self {
            kind,
            name,
            link: text(field(block, 157, 100)).to_vec(),
            mode: u32::try_from(positive(100, 8, "mode")? & 0o7777).unwrap_or(0),
            uid: positive(108, 8, "uid")?,
            gid: positive(116, 8, "gid")?,
            size: positive(124, 12, "size")?,
            mtime: number(field(block, 136, 12), "mtime")?,
            major: if is_device { positive(329, 8, "device number")? } else { 0 },
            minor: if is_device { positive(337, 8, "device number")? } else { 0 },
        })
    }
}

/// What stands before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in base 256 if the first bit is set.
pub(super) fn number(field: &[u8], what: &str) -> Result<i64, Problem> {
    let bad = || Problem::Text(format!("the {what} of a member is no number, or too large"));
    let Some((first, rest)) = field.split_first() else { return Err(bad()) };
    if first & 0x80 != 0 {
        // The bit below the first one is the sign.
        let start = i64::from(first & 0x3f) - if first & 0x40 == 0 { 0 } else { 64 };
        return rest
            .iter()
            .try_fold(start, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
            .ok_or_else(bad);
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => {
            value.checked_mul(8).and_then(|value| value.checked_add(i64::from(digit - b'0'))).ok_or_else(bad)
        }
        _ => Err(bad()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0", "x").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0", "x").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0", "x").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0], "x").unwrap(), 256);
        assert_eq!(number(&[0xff; 12], "x").unwrap(), -1);
        assert!(number(b"0000648\0", "x").is_err());
        assert!(number(&[0xbf; 12], "x").is_err());
        assert!(number(b"-1", "x").is_err());
    }
}
