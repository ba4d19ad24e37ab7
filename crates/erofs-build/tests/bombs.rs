//! Archives that never end: a stream of a few kilobytes, compressed, may be one.

mod common;

use std::io::{self, Cursor, Read};

use common::archives::{archive, build_from, file, header, member, pax, sealed, stream};
use erofs_build::{BuildOptions, Error, TarSource};

/// The same bytes again and again.
struct Again {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at = (self.at + length) % self.bytes.len();
        Ok(length)
    }
}

/// What a build says of an archive that begins with `start` and goes on with `bytes` for ever.
fn refused(start: &[u8], bytes: &[u8]) -> String {
    let again = Again { bytes: bytes.to_vec(), at: 0 };
    let source = TarSource::from_stream(Cursor::new(start.to_vec()).chain(again), "stream.tar");
    let error = build_from(source, &BuildOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }), "{error}");
    error.to_string()
}

#[test]
fn headers_before_one_member_have_an_end() {
    for kind in [b'x', b'L', b'K', b'g'] {
        let name = member(&header("n", kind, 1 << 20, ""), &vec![b'n'; 1 << 20]);
        let records = pax(kind, &[("comment", &vec![b'c'; 100 << 10])]);
        let said = refused(b"", if matches!(kind, b'x' | b'g') { &records } else { &name });
        assert!(said.contains("longer than any should be"), "{said}");
    }
}

#[test]
fn records_for_all_members_have_an_end() {
    let records: Vec<_> = (0..4).map(|nth| (format!("k{nth}"), vec![b'v'; 70 << 10])).collect();
    let headers = records.iter().map(|(key, value)| pax(b'g', &[(key, value)]));
    let start: Vec<u8> = headers.flat_map(|header| [header, file("a", b"")].concat()).collect();
    let said = refused(&start, b"\0");
    assert!(said.contains("global headers have 286728 bytes"), "{said}");
}

#[test]
fn maps_of_sparse_members_have_an_end() {
    // Format 1.0: lines of numbers in front of the data.
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9000000000000000000"),
        ("size", b"9000000000000000000"),
    ];
    let start = [pax(b'x', records), header("a", b'0', 0, "").to_vec()].concat();
    let said = refused(&start, b"1");
    assert!(said.contains("makes no sense"), "{said}");
    let said = refused(&[&start[..], b"4000000000000000000\n"].concat(), b"1\n");
    assert!(said.contains("more than 4194304 parts"), "{said}");
    // The old format: blocks that say that another one follows.
    let mut old = header("a", b'S', 0, "");
    old[257..265].copy_from_slice(b"ustar  \0");
    old[386..397].copy_from_slice(b"00000000001");
    old[398..409].copy_from_slice(b"00000000000");
    old[482] = 1;
    let mut more = [0; 512];
    more[..504].chunks_mut(12).for_each(|number| number[..11].copy_from_slice(b"00000000001"));
    more[504] = 1;
    let said = refused(&sealed(old), &more);
    assert!(said.contains("more than 4194304 parts"), "{said}");
}

#[test]
fn directories_that_only_paths_name_have_an_end() {
    let paths = (0..600).map(|nth| format!("{nth}/{}f", "d/".repeat(2000)));
    let member = |path: String| [pax(b'x', &[("path", path.as_bytes())]), file("f", b"")].concat();
    let members: Vec<_> = paths.map(member).collect();
    let error = build_from(stream(&archive(&members)), &BuildOptions::default()).unwrap_err();
    assert!(error.to_string().contains("directories have no entry of their own"), "{error}");
}
