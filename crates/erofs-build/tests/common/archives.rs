//! Archives for tests, made member by member.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test file uses a part of it

use std::fs;

use erofs_build::{BuildOptions, Output, Silent, Sources, TarSource, build};

use super::{View, open, view_image};

pub fn build_from(sources: impl Into<Sources>, options: &BuildOptions) -> erofs_build::Result<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut output = Output::create(&path, false)?;
    output.set_durable(false);
    let built = build(options, sources, &mut output, &Silent);
    drop(output);
    if built.is_err() {
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something was left behind");
    }
    built.map(|_| fs::read(path).unwrap())
}

pub fn stream(bytes: &[u8]) -> TarSource {
    TarSource::from_stream(std::io::Cursor::new(bytes.to_vec()), "stream.tar")
}

pub fn view(sources: impl Into<Sources>, options: &BuildOptions) -> View {
    view_image(&open(&build_from(sources, options).unwrap()))
}

/// A header in ustar form.
pub fn header(name: &str, kind: u8, size: u64, link: &str) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0001750");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000144");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    sealed(block)
}

pub fn sealed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

pub fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    member(&header(name, b'0', bytes.len() as u64, ""), bytes)
}

pub fn member(header: &[u8; 512], bytes: &[u8]) -> Vec<u8> {
    let mut member = [&header[..], bytes].concat();
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..9).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
        body.extend_from_slice(format!("{} {key}=", length.unwrap()).as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    member(&header("pax", kind, body.len() as u64, ""), &body)
}

pub fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

pub fn text(view: &View, path: &str) -> String {
    String::from_utf8(view[path.as_bytes()].content.clone()).unwrap()
}
