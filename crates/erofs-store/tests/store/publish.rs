//! Files become objects, honestly or not at all.

use crate::common::LONG;
use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::inode;
use crate::common::key;
use crate::common::sha256;
use crate::common::whole;
use erofs_store::Outcome;
use erofs_store::Piece;
use erofs_store::Publish;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_file_is_published_under_both_names_and_then_made_durable() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(1, 10_000);
    let (blob, offsets) = blob(setup.root.path(), &[&content]);
    let source = keeper.mount(key(1), &blob);
    let digest = sha256(&content);
    let publish = whole(key(1), 42, Some(digest), source, offsets[0], content.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));

    let fresh = setup.fresh_object(&digest);
    assert_eq!(fs::read(&fresh).unwrap(), content);
    assert_eq!(fs::metadata(&fresh).unwrap().mode() & 0o7777, 0o444);
    assert_eq!(inode(&fresh).0, inode(&setup.by_nid(&key(1), 42)).0);
    assert!(setup.domain.objects().contains(&digest));

    keeper.client.flush().unwrap();
    assert_eq!(inode(&fresh).0, inode(&setup.object(&digest)).0, "one inode, so one page cache");
    assert_eq!(setup.domain.facts(&key(1)).unwrap().get(42), Some(digest));
    keeper.end();
}

#[test]
fn bytes_that_lie_in_no_blob_are_handed_over_in_memory_or_through_a_pipe() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let (blob, _) = blob(setup.root.path(), &[b"compressed"]);
    keeper.mount(key(1), &blob);
    let content = bytes(3, 300_000);
    let digest = sha256(&content);

    let memory = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    fs::File::from(memory.try_clone().unwrap()).write_all(&content).unwrap();
    let source = keeper.client.hand_over(memory.as_fd()).unwrap();
    let publish = whole(key(1), 1, Some(digest), source, 0, content.len());
    let answer = keeper.start_publish(&publish);
    keeper.client.unregister_source(source);
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Outcome::Published(digest));

    let (reader, mut writer) = std::io::pipe().unwrap();
    let source = keeper.client.hand_over(reader.as_fd()).unwrap();
    let answer = keeper.start_publish(&whole(key(1), 2, None, source, 0, content.len()));
    keeper.client.unregister_source(source);
    drop(reader);
    writer.write_all(&content).unwrap();
    drop(writer);
    assert_eq!(answer.recv_timeout(LONG).unwrap(), Outcome::Published(digest));
    assert_eq!(inode(&setup.by_nid(&key(1), 1)).0, inode(&setup.by_nid(&key(1), 2)).0, "one object");

    // Whoever stops in the middle has published nothing.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let source = keeper.client.hand_over(reader.as_fd()).unwrap();
    let answer = keeper.start_publish(&whole(key(1), 3, None, source, 0, content.len()));
    writer.write_all(&content[..1000]).unwrap();
    drop(writer);
    assert!(matches!(answer.recv_timeout(LONG).unwrap(), Outcome::Io(_)));
    assert!(!setup.by_nid(&key(1), 3).exists());
    keeper.end();
}

#[test]
fn a_file_without_a_claim_is_shared_by_what_it_is() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(2, 5000);
    let (blob, offsets) = blob(setup.root.path(), &[&content]);
    let source = keeper.mount(key(1), &blob);
    let publish = whole(key(1), 1, None, source, offsets[0], content.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&content)));
    keeper.end();
    assert_eq!(
        fs::read(setup.object(&sha256(&content))).unwrap(),
        content,
        "the end of a keeper ends its batch"
    );
}

#[test]
fn equal_files_of_two_images_are_one_inode() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(3, 300_000);
    let (first, one) = blob(setup.root.path(), &[&content]);
    let (second, two) = blob(setup.root.path(), &[b"something else", &content]);
    let digest = sha256(&content);
    let source = keeper.mount(key(1), &first);
    let publish = whole(key(1), 7, Some(digest), source, one[0], content.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    let source = keeper.mount(key(2), &second);
    let publish = whole(key(2), 9, None, source, two[1], content.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    assert_eq!(inode(&setup.by_nid(&key(1), 7)).0, inode(&setup.by_nid(&key(2), 9)).0);

    keeper.client.flush().unwrap();
    let report = setup.domain.stat(&[key(1), key(2)]).unwrap();
    assert_eq!((report.objects, report.bytes, report.saved_bytes), (1, 300_000, 300_000));
    let resident = (report.filesystem != "overlay").then_some(300_000);
    assert_eq!(report.resident_bytes, resident, "the object's pages stay: readers share them");
    assert_eq!(report.saved_resident_bytes, resident);
    assert_eq!(report.images.len(), 2);
    keeper.end();
}

#[test]
fn a_false_claim_links_and_records_nothing() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let (real, claimed) = (bytes(4, 5000), sha256(b"a well-known file"));
    let (blob, offsets) = blob(setup.root.path(), &[&real]);
    let source = keeper.mount(key(1), &blob);
    let publish = whole(key(1), 5, Some(claimed), source, offsets[0], real.len());
    for _ in 0..2 {
        assert_eq!(keeper.publish(&publish), Outcome::Mismatch { found: sha256(&real) });
    }
    keeper.client.flush().unwrap();
    assert!(!setup.domain.objects().contains(&claimed));
    assert!(!setup.domain.objects().contains(&sha256(&real)));
    assert!(!setup.by_nid(&key(1), 5).exists());
    assert!(setup.domain.facts(&key(1)).unwrap().is_empty());
    keeper.end();
}

#[test]
fn claiming_another_images_object_discloses_nothing() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let secret = bytes(5, 9000);
    let (victims, there) = blob(setup.root.path(), &[&secret]);
    let source = keeper.mount(key(1), &victims);
    let digest = sha256(&secret);
    let publish = whole(key(1), 1, Some(digest), source, there[0], secret.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    keeper.client.flush().unwrap();

    let other = vec![0; secret.len()];
    let (attackers, here) = blob(setup.root.path(), &[&other]);
    let mine = keeper.mount(key(2), &attackers);
    let publish = whole(key(2), 1, Some(digest), mine, here[0], other.len());
    assert_eq!(keeper.publish(&publish), Outcome::Mismatch { found: sha256(&other) });
    assert!(!setup.by_nid(&key(2), 1).exists());
    assert!(setup.domain.facts(&key(2)).unwrap().is_empty());

    // Nor may one image's files be made of another's bytes.
    let publish = whole(key(2), 2, Some(digest), source, there[0], secret.len());
    assert!(matches!(keeper.publish(&publish), Outcome::Io(_)));
    assert!(!setup.by_nid(&key(2), 2).exists());
    assert_eq!(fs::read(setup.object(&digest)).unwrap(), secret);
    keeper.end();
}

#[test]
fn a_known_file_is_published_without_reading_it_again() {
    let setup = Setup::new();
    let content = bytes(6, 20_000);
    let digest = sha256(&content);
    let (blob, offsets) = blob(setup.root.path(), &[&content]);
    for round in 0..2 {
        let keeper = setup.keeper();
        let source = keeper.mount(key(1), &blob);
        let publish = whole(key(1), 3, Some(digest), source, offsets[0], content.len());
        assert_eq!(keeper.publish(&publish), Outcome::Published(digest), "round {round}");
        if round == 1 {
            // The claim of the fact's nid can't change with the image unchanged.
            let publish = whole(key(1), 3, Some(sha256(b"x")), source, offsets[0], content.len());
            assert_eq!(keeper.publish(&publish), Outcome::Mismatch { found: digest });
        }
        keeper.end();
        // After this the bytes are gone, so that reading them again would be seen.
        blob.set_len(0).unwrap();
        blob.set_len(1 << 20).unwrap();
    }
}

#[test]
fn holes_stay_holes_and_pieces_come_from_several_blobs() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let (head, tail) = (bytes(7, 4096), bytes(8, 100));
    let (first, one) = blob(setup.root.path(), &[&head]);
    let (second, two) = blob(setup.root.path(), &[&tail]);
    let sources = [&first, &second].map(|blob| keeper.client.register_source(blob.as_fd()).unwrap());
    keeper
        .client
        .mount_image(&erofs_store::ImageMount { key: key(1), name: "two".into(), sources: sources.to_vec() })
        .unwrap();
    let hole = 8 << 20;
    let pieces = vec![
        Piece::Data { source: sources[0], offset: one[0], len: 4096 },
        Piece::Hole { len: hole },
        Piece::Data { source: sources[1], offset: two[0], len: 100 },
    ];
    let expected = [head, vec![0; usize::try_from(hole).unwrap()], tail].concat();
    let size = expected.len() as u64;
    let publish = Publish { image: key(1), nid: 1, claimed: None, size, pieces };
    let digest = sha256(&expected);
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    let object = setup.fresh_object(&digest);
    assert_eq!(fs::read(&object).unwrap(), expected);
    assert!(fs::metadata(&object).unwrap().blocks() * 512 < 64 << 10, "the hole takes no room");
    let all_hole =
        Publish { image: key(1), nid: 2, claimed: None, size: 5, pieces: vec![Piece::Hole { len: 5 }] };
    assert_eq!(keeper.publish(&all_hole), Outcome::Published(sha256(&[0; 5])));
    let empty = Publish { image: key(1), nid: 3, claimed: None, size: 0, pieces: vec![] };
    assert_eq!(keeper.publish(&empty), Outcome::Published(sha256(b"")));
    keeper.end();
}

#[test]
fn a_file_of_very_many_pieces_is_put_together_right() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(9, 300_000);
    let (blob, offsets) = blob(setup.root.path(), &[&content]);
    let source = keeper.mount(key(1), &blob);
    // Backwards, so that the order matters.
    let chunks: Vec<_> = content.chunks(30).enumerate().collect();
    let pieces: Vec<_> = chunks
        .iter()
        .rev()
        .map(|(i, chunk)| Piece::Data {
            source,
            offset: offsets[0] + 30 * *i as u64,
            len: chunk.len() as u64,
        })
        .collect();
    let expected: Vec<u8> = chunks.iter().rev().flat_map(|(_, chunk)| chunk.iter().copied()).collect();
    let publish = Publish { image: key(1), nid: 1, claimed: None, size: 300_000, pieces };
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&expected)));
    keeper.end();
}

#[test]
fn many_openers_of_one_file_wait_for_one_flight() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(10, 3 << 20);
    let digest = sha256(&content);
    let (blob, offsets) = blob(setup.root.path(), &[&content]);
    let source = keeper.mount(key(1), &blob);
    let waiting: Vec<_> = (0..100)
        .map(|i| {
            keeper.start_publish(&whole(key(1), i % 10, Some(digest), source, offsets[0], content.len()))
        })
        .collect();
    for receiver in waiting {
        assert_eq!(receiver.recv_timeout(crate::common::LONG).unwrap(), Outcome::Published(digest));
    }
    keeper.client.flush().unwrap();
    // objects, fresh, and ten nids.
    assert_eq!(inode(&setup.object(&digest)).1, 12);
    keeper.end();
}

#[test]
fn a_blob_that_became_shorter_is_an_error_of_that_file_only() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(11, 8192);
    let (blob, offsets) = blob(setup.root.path(), &[&content, &content]);
    let source = keeper.mount(key(1), &blob);
    blob.set_len(8192 + 100).unwrap();
    let publish = whole(key(1), 1, None, source, offsets[1], content.len());
    assert!(matches!(keeper.publish(&publish), Outcome::Io(_)));
    let publish = whole(key(1), 2, None, source, offsets[0], content.len());
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&content)));
    assert!(!setup.by_nid(&key(1), 1).exists());
    keeper.end();
}

#[test]
fn when_the_keeper_ends_nobody_waits_for_ever() {
    let setup = Setup::new();
    let (ours, theirs) = crate::common::pair();
    let client = erofs_store::KeeperClient::new(ours).unwrap();
    let content = bytes(12, 4096);
    let (blob, _) = blob(setup.root.path(), &[&content]);
    let source = client.register_source(blob.as_fd()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    // More than the socket holds, so that some wait in the client.
    for nid in 0..5000 {
        let sender = sender.clone();
        client
            .publish(&whole(key(1), nid, None, source, 0, 10), move |outcome| sender.send(outcome).unwrap());
    }
    drop(theirs);
    drop(sender);
    let outcomes: Vec<_> = receiver.iter().collect();
    assert_eq!(outcomes.len(), 5000);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Io(32)));
    assert!(!client.is_alive());
    assert!(client.flush().is_err());
    assert!(client.register_source(blob.as_fd()).is_err());
}

#[test]
fn where_extents_can_be_shared_an_object_takes_no_room() {
    let setup = Setup::new();
    let content = bytes(13, 96 << 20);
    let (blob, offsets) = blob(setup.root.path(), &[b"something before it", &content[..content.len() - 100]]);
    rustix::fs::syncfs(&blob).unwrap();
    let probe = tempfile::tempfile_in(setup.root.path()).unwrap();
    if erofs_sys::clone_range(&blob, 0, 4096, &probe, 0).is_err() {
        return crate::process::skip("this filesystem shares no extents");
    }
    let free = || rustix::fs::statvfs(setup.root.path()).unwrap().f_bavail * 4096;
    let before = free();
    let keeper = setup.keeper();
    let source = keeper.mount(key(1), &blob);
    let len = content.len() - 100;
    let publish = whole(key(1), 1, None, source, offsets[1], len);
    let digest = sha256(&content[..len]);
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    let small = whole(key(1), 2, None, source, offsets[1] + 4096, 5000);
    assert_eq!(keeper.publish(&small), Outcome::Published(sha256(&content[4096..9096])));
    keeper.end();
    // Other tests take and free some in the meantime.
    let taken = before.saturating_sub(free());
    assert!(taken < 48 << 20, "{taken} bytes were taken");
    assert_eq!(fs::read(setup.object(&digest)).unwrap(), content[..len]);
    let stat = setup.domain.stat(&[]).unwrap();
    assert_eq!(stat.resident_bytes, Some(stat.bytes), "what readers share is in the page cache");
}
