//! Records of pax extended headers: `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;

use super::Problem;
use crate::tree::Time;

/// What extended headers say; an empty value takes back what a global header said.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Adds the records in `bytes` to `records`. `GNU.sparse.offset` and `.numbytes` occur many times, as the map
/// of a sparse file of format 0.0, and are gathered in `map`.
pub(super) fn parse(mut bytes: &[u8], records: &mut Records, map: &mut Vec<u64>) -> Result<(), Problem> {
    let bad = || Problem::new("an extended header has a record that is no \"LENGTH KEY=VALUE\"");
    while !bytes.is_empty() {
        // Some writers fill up with NULs.
        if bytes.iter().all(|byte| *byte == 0) {
            break;
        }
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = decimal(bytes.get(..space).unwrap_or_default()).ok_or_else(bad)?;
        let length = usize::try_from(length).map_err(|_| bad())?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
            map.push(decimal(value).ok_or_else(bad)?);
        } else {
            records.insert(key.to_vec(), value.to_vec());
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The value of `key`, if there is one.
pub(super) fn get<'a>(records: &'a Records, key: &str) -> Option<&'a [u8]> {
    records.get(key.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
}

/// The number that `key` is.
pub(super) fn number(records: &Records, key: &str) -> Result<Option<u64>, Problem> {
    let parse = |value| {
        decimal(value).ok_or_else(|| Problem::Text(format!("the {key} of an extended header is no number")))
    };
    get(records, key).map(parse).transpose()
}

/// Digits and nothing else.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// A time as a decimal number, which may be negative and have a fraction.
pub(super) fn time(value: &[u8]) -> Result<Time, Problem> {
    let bad = || Problem::new("the mtime of an extended header is no time");
    let (digits, is_negative) = value.strip_prefix(b"-").map_or((value, false), |digits| (digits, true));
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let seconds = parts.next().and_then(decimal).ok_or_else(bad)?;
    let seconds = i64::try_from(seconds).map_err(|_| bad())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let nine = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = nine.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

/// Names and values of xattrs.
pub(super) type RawXattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The xattrs that the records have. libarchive writes each in a way of its own too, with values in base 64, and
/// says more exactly there what the name is.
pub(super) fn xattrs(records: &Records) -> Result<RawXattrs, Problem> {
    let mut found = BTreeMap::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let bad = || Problem::new("a LIBARCHIVE.xattr record is not in base 64");
            found.insert(unescaped(name, |_| true), base64(value).ok_or_else(bad)?);
        }
    }
    let is_libarchive = !found.is_empty();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
            && !is_libarchive
        {
            // GNU tar escapes these two. Others escape nothing, and other sequences are what they are.
            found.insert(unescaped(name, |byte| matches!(byte, b'%' | b'=')), value.clone());
        } else if key == b"RHT.security.selinux" {
            found.entry(b"security.selinux".to_vec()).or_insert_with(|| value.clone());
        }
    }
    Ok(found.into_iter().collect())
}

/// A name of which some bytes may be written as `%XX`.
fn unescaped(name: &[u8], may_be: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let byte = byte.filter(|byte| may_be(*byte));
        plain.push(byte.unwrap_or(first));
        rest = after.get(if byte.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    plain
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for symbol in group {
            let value = match symbol {
                b'A'..=b'Z' => symbol - b'A',
                b'a'..=b'z' => symbol - b'a' + 26,
                b'0'..=b'9' => symbol - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend_from_slice([a, b, c].get(..group.len() - 1)?);
        if group.len() == 1 {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_their_lengths_so_values_may_hold_anything() {
        let mut records = Records::new();
        parse(b"12 a=b\nc=d=\n6 b=\0\n7 a=xy\n", &mut records, &mut Vec::new()).unwrap();
        assert_eq!(get(&records, "b"), Some(&b"\0"[..]));
        assert_eq!(get(&records, "a"), Some(&b"xy"[..]));
        for bad in [&b"5 a=b"[..], b"x a=b\n", b"99 a=b\n", b"6 ab\n", b"3 a=b\n", b"-6 a=b\n"] {
            assert!(parse(bad, &mut records, &mut Vec::new()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        assert_eq!(time(b"12").unwrap(), (12, 0));
        assert_eq!(time(b"12.5").unwrap(), (12, 500_000_000));
        assert_eq!(time(b"12.1234567899").unwrap(), (12, 123_456_789));
        assert_eq!(time(b"-1.5").unwrap(), (-2, 500_000_000));
        assert_eq!(time(b"-1").unwrap(), (-1, 0));
        for bad in [&b""[..], b".5", b"1e3", b"1.x", b"99999999999999999999", b"--1"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn libarchives_own_xattrs_are_decoded() {
        let mut records = Records::new();
        parse(b"33 LIBARCHIVE.xattr.user.%3D=YWI=\n", &mut records, &mut Vec::new()).unwrap_err();
        parse(b"34 LIBARCHIVE.xattr.user.%3D=YWI=\n", &mut records, &mut Vec::new()).unwrap();
        assert_eq!(xattrs(&records).unwrap(), [(b"user.=".to_vec(), b"ab".to_vec())]);
        let mut records = Records::new();
        parse(b"35 SCHILY.xattr.user.%41%3d%25%3=x\n", &mut records, &mut Vec::new()).unwrap();
        assert_eq!(xattrs(&records).unwrap(), [(b"user.%41=%%3".to_vec(), b"x".to_vec())]);
        assert_eq!(base64(b"YWJj").unwrap(), b"abc");
        assert_eq!(base64(b"YQ").unwrap(), b"a");
        assert_eq!(base64(b"Y"), None);
        assert_eq!(base64(b"Y*=="), None);
    }
}
