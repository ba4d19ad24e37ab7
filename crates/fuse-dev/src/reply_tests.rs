use super::*;
use crate::types::FOREVER;
use std::io::{PipeReader, pipe};
use zerocopy::FromBytes;

fn owed() -> (PipeReader, Reply) {
    let (reader, writer) = pipe().unwrap();
    (reader, Reply::new(Arc::new(Device::new(writer.into())), 8))
}

fn message(reader: &PipeReader) -> (abi::OutHeader, Vec<u8>) {
    let mut bytes = vec![0; 8192];
    let length = rustix::io::read(reader, bytes.as_mut_slice()).unwrap();
    bytes.truncate(length);
    let (header, body) = abi::OutHeader::read_from_prefix(&bytes).unwrap();
    assert_eq!(header.len as usize, length);
    (header, body.to_vec())
}

#[test]
fn a_forgotten_reply_is_an_error_and_not_a_hung_process() {
    let (reader, reply) = owed();
    drop(reply);
    assert_eq!(message(&reader).0.error, -Errno::IO.raw_os_error());
}

#[test]
fn an_abandoned_reply_says_nothing() {
    let (reader, reply) = owed();
    reply.abandon();
    assert_eq!(rustix::io::read(&reader, &mut [0_u8; 16]).unwrap(), 0, "closed without a message");
}

#[test]
fn an_error_that_fuse_cannot_carry_becomes_eio() {
    let (reader, reply) = owed();
    reply.error(Errno::from_raw_os_error(512));
    assert_eq!(message(&reader).0.error, -Errno::IO.raw_os_error());
}

#[test]
fn a_missing_name_is_cached_only_if_it_may_be() {
    let (reader, reply) = owed();
    reply.negative(Duration::ZERO);
    assert_eq!(message(&reader).0.error, -Errno::NOENT.raw_os_error());
    let (reader, reply) = owed();
    reply.negative(FOREVER);
    let (header, body) = message(&reader);
    let entry = abi::EntryOut::read_from_bytes(&body).unwrap();
    assert_eq!((header.error, entry.nodeid, entry.entry_valid), (0, 0, FOREVER.as_secs()));
}

#[test]
fn xattr_sizes_follow_getxattr() {
    let answer = |size, value: &[u8]| {
        let (reader, reply) = owed();
        reply.xattr(size, value);
        let (header, body) = message(&reader);
        (header.error, body)
    };
    assert_eq!(answer(0, b"abc"), (0, vec![3, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(answer(2, b"abc"), (-Errno::RANGE.raw_os_error(), vec![]));
    assert_eq!(answer(3, b"abc"), (0, b"abc".to_vec()));
    assert_eq!(answer(9, b""), (0, vec![]));
}

#[test]
fn an_ordinary_open_never_claims_passthrough() {
    let (reader, reply) = owed();
    reply.open(5, OpenFlags::all());
    let open = abi::OpenOut::read_from_bytes(&message(&reader).1).unwrap();
    assert_eq!((open.fh, open.backing_id, open.open_flags & (1 << 7)), (5, 0, 0));
}

#[test]
fn an_answer_to_nobody_is_no_trouble() {
    let (reader, reply) = owed();
    drop(reader);
    reply.ok();
}
