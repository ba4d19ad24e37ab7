//! A server that was taken over: nothing it sends makes the keeper do what it should not.

use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::key;
use crate::common::pair;
use crate::common::sha256;
use crate::common::whole;
use erofs_store::ImageKey;
use erofs_store::ImageMount;
use erofs_store::KeeperClient;
use erofs_store::Outcome;
use erofs_store::Piece;
use erofs_store::Publish;
use erofs_store::SourceId;
use erofs_store::keeper;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::thread;

/// Sends the packets to a keeper and returns how it ended.
fn send(setup: &Setup, packets: &[(&[u8], &[BorrowedFd<'_>])]) -> erofs_store::Result<()> {
    let (ours, theirs) = pair();
    let domain = setup.domain.clone();
    let keeper = thread::spawn(move || keeper::serve(theirs, &domain));
    for (packet, descriptors) in packets {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        // It may have hung up on an earlier one.
        let _ = rustix::net::sendmsg(&ours, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL);
    }
    drop(ours);
    keeper.join().expect("a keeper never panics")
}

#[test]
fn packets_that_are_none_end_the_connection_and_nothing_else() {
    let setup = Setup::new();
    let file = tempfile::tempfile().unwrap();
    let fd = file.as_fd();
    let source = [1, 1, 0, 0, 0];
    let long = vec![5; 100_000];
    let many = [fd; 8];
    let cases: &[&[(&[u8], &[BorrowedFd<'_>])]] = &[
        &[(&[0xff], &[])],
        &[(&[1], &[])],
        &[(&source, &[])],
        &[(&source, &[fd]), (&source, &[fd])],
        &[(&source, &many)],
        &[(&[7, 0, 0, 0, 0, 0, 0, 0, 0], &[fd])],
        &[(&[5, 0xff], &[])],
        &[(&long, &[])],
        &[(&[6, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[])],
    ];
    for (index, packets) in cases.iter().enumerate() {
        let error = send(&setup, packets).expect_err(&format!("case {index}"));
        assert!(error.to_string().starts_with("keeper protocol"), "{error}");
    }
    // Random bytes of every length, each on a connection of its own.
    for seed in 0..200 {
        let packet = bytes(seed, usize::try_from(seed).unwrap() * 3 + 1);
        let _ = send(&setup, &[(&packet, &[]), (&packet, &[fd])]);
    }
    let mut objects = 0;
    setup.domain.objects().for_each(&mut |_| objects += 1).unwrap();
    assert_eq!(objects, 0);
    assert_eq!(setup.domain.verify(false).unwrap().problems, []);
}

#[test]
fn pieces_that_lie_are_errors_of_that_file() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(1, 8192);
    let (file, _) = blob(setup.root.path(), &[&content]);
    let (unrelated, _) = blob(setup.root.path(), &[b"another image's"]);
    let source = keeper.mount(key(1), &file);
    let other = keeper.client.register_source(unrelated.as_fd()).unwrap();
    let data = |source, offset, len| Piece::Data { source, offset, len };
    let cases: &[(u64, &[Piece])] = &[
        (8193, &[data(source, 0, 8193)]),
        (10, &[data(source, 8190, 10)]),
        (10, &[data(source, u64::MAX - 4, 10)]),
        (u64::MAX, &[data(source, 1, u64::MAX)]),
        (9, &[data(source, 0, 10)]),
        (11, &[data(source, 0, 10)]),
        (0, &[data(source, 0, 10)]),
        (10, &[]),
        (1, &[Piece::Hole { len: u64::MAX }, Piece::Hole { len: 2 }]),
        (10, &[data(other, 0, 10)]),
        (10, &[data(SourceId(77), 0, 10)]),
    ];
    for (index, (size, pieces)) in cases.iter().enumerate() {
        let publish = Publish { image: key(1), nid: 1, claimed: None, size: *size, pieces: pieces.to_vec() };
        assert!(matches!(keeper.publish(&publish), Outcome::Io(_)), "case {index}");
    }
    let huge = Publish {
        image: key(1),
        nid: 2,
        claimed: None,
        size: u64::MAX,
        pieces: vec![Piece::Hole { len: u64::MAX }],
    };
    assert_eq!(keeper.publish(&huge), Outcome::NoSpace, "nobody hashes for centuries");
    let unknown = Publish { image: key(9), nid: 1, claimed: None, size: 0, pieces: vec![] };
    assert!(matches!(keeper.publish(&unknown), Outcome::Io(_)), "an image that was never mounted");

    // Pieces may overlap: a deduplicating builder makes such files.
    let pieces = vec![data(source, 0, 5000), data(source, 100, 5000), data(source, 0, 5000)];
    let expected = [&content[..5000], &content[100..5100], &content[..5000]].concat();
    let publish = Publish { image: key(1), nid: 3, claimed: None, size: 15_000, pieces };
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&expected)));
    keeper.client.flush().unwrap();
    let report = setup.domain.stat(&[]).unwrap();
    assert_eq!((report.objects, report.bytes), (1, 15_000));
    keeper.end();
}

#[test]
fn descriptors_that_are_no_files_are_never_read() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let (reader, _writer) = std::io::pipe().unwrap();
    let terminal = fs::File::open("/dev/zero").unwrap();
    let directory = fs::File::open("/").unwrap();
    for fd in [reader.as_fd(), terminal.as_fd(), directory.as_fd()] {
        let source = keeper.client.register_source(fd).unwrap();
        let image = ImageMount { key: key(1), name: "x".into(), sources: vec![source] };
        assert!(keeper.client.mount_image(&image).is_err());
    }
    let image = ImageMount { key: key(1), name: "x".into(), sources: vec![SourceId(99)] };
    assert!(keeper.client.mount_image(&image).is_err());
    keeper.end();
}

/// The key was made of the image as it was; what is in it when a file is opened is another matter.
#[test]
fn an_image_that_changes_while_it_is_mounted_says_nothing_about_its_honest_copies() {
    let setup = Setup::new();
    let honest = bytes(81, 6000);
    let (ours, _) = blob(setup.root.path(), &[&honest]);
    let (theirs, there) = blob(setup.root.path(), &[&honest]);
    let key_of = |blob: &fs::File| ImageKey::of(&[blob.as_fd()], 0).unwrap();
    let keeper = crate::common::Keeper::start(&setup.domain);
    let (key, evil) = (key_of(&theirs), bytes(82, 6000));
    let source = keeper.mount(key, &theirs);
    rustix::io::pwrite(&theirs, &evil, there[0]).unwrap();
    let publish = whole(key, 1, None, source, there[0], evil.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&evil)));
    assert!(setup.domain.facts(&key_of(&ours)).unwrap().is_empty());
    keeper.end();
}

#[test]
fn a_client_that_talks_to_no_keeper_gives_up() {
    let (ours, theirs) = pair();
    let client = KeeperClient::new(ours).unwrap();
    let mut control = SendAncillaryBuffer::default();
    rustix::net::sendmsg(&theirs, &[IoSlice::new(b"nonsense")], &mut control, SendFlags::empty()).unwrap();
    assert!(client.flush().is_err());
    assert!(!client.is_alive());
}

#[test]
fn names_of_images_may_be_anything() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let (file, _) = blob(setup.root.path(), &[b"x"]);
    let source = keeper.client.register_source(file.as_fd()).unwrap();
    let name = format!("../../\"\n{}", "\u{e4}".repeat(5000));
    keeper.client.mount_image(&ImageMount { key: key(1), name, sources: vec![source] }).unwrap();
    let report = setup.domain.stat(&[key(1)]).unwrap();
    assert!(report.images[0].name.len() <= 4096);
    assert!(report.images[0].name.starts_with("../../\"\n\u{e4}"));
    keeper.end();
}
