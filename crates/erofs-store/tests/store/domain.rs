//! Making, opening, checking and removing domains.

use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::key;
use crate::common::sha256;
use crate::common::whole;
use crate::process::skip;
use erofs_store::Domain;
use erofs_store::Error;
use erofs_store::ErrorKind;
use erofs_store::Outcome;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

#[test]
fn a_domain_appears_whole_and_is_private() {
    let setup = Setup::new();
    let metadata = fs::metadata(setup.path()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o700);
    let secret = setup.domain.secret().unwrap();
    assert_eq!(secret.len(), 32);
    let mut names: Vec<_> =
        fs::read_dir(setup.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["fresh", "images", "lock", "objects", "secret"]);
    assert_eq!(fs::read_dir(setup.path().join("objects")).unwrap().count(), 0, "no probe is left");
    assert_eq!(fs::read_dir(setup.root.path()).unwrap().count(), 1, "no half domain is left");

    let again = Domain::open(&setup.path()).unwrap();
    assert_eq!(again.secret().unwrap(), secret);
    assert!(!Domain::open_or_create(&setup.path()).unwrap().1);
    assert_eq!(Domain::create(&setup.path()).unwrap_err().kind(), ErrorKind::Exists);
    let other = Domain::create(&setup.root.path().join("other")).unwrap();
    assert_ne!(other.secret().unwrap(), secret);
}

#[test]
fn what_others_could_change_is_no_domain() {
    let setup = Setup::new();
    for mode in [0o701, 0o710, 0o755, 0o777] {
        fs::set_permissions(setup.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = Domain::open(&setup.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
    fs::set_permissions(setup.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(setup.path(), Some(54321), None).unwrap();
        let error = Domain::open(&setup.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        std::os::unix::fs::chown(setup.path(), Some(0), None).unwrap();
    }
    let link = setup.root.path().join("link");
    symlink(setup.path(), &link).unwrap();
    assert!(Domain::open(&link).is_err(), "a symlink is not followed");
    fs::remove_file(setup.path().join("secret")).unwrap();
    assert_eq!(Domain::open(&setup.path()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_place_where_nothing_is_or_nothing_can_be_is_named() {
    let setup = Setup::new();
    let nowhere = setup.root.path().join("nowhere");
    assert!(matches!(Domain::open(&nowhere), Err(Error::NotFound { .. })));
    assert!(matches!(Domain::create(&nowhere.join("d")), Err(Error::Io { .. })));
    assert_eq!(Domain::create(&setup.root.path().join(".hidden")).unwrap_err().kind(), ErrorKind::Usage);
    // A filesystem that has no files of ours at all.
    let error = Domain::create(std::path::Path::new("/proc/d")).unwrap_err();
    assert!(error.to_string().contains("/proc/d"), "{error}");
}

#[test]
fn a_domain_in_memory_says_so() {
    let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return skip("no /dev/shm") };
    match Domain::create(&place.path().join("d")) {
        Ok(domain) => assert!(domain.stat(&[]).unwrap().in_memory),
        // Before Linux 6.6 tmpfs had no user.* attributes.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
}

#[test]
fn the_state_root_is_tagged_private_and_cleaned() {
    let setup = Setup::new();
    let root = setup.root.path().join("a/b/state");
    let domains = Domain::prepare_state_root(&root).unwrap();
    assert_eq!(domains, root.join("domains"));
    let tag = fs::read_to_string(root.join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o700);

    // What a killed create or remove left goes; what somebody is at stays.
    let left = Domain::create(&domains.join("left")).unwrap();
    let busy = Domain::create(&domains.join("busy")).unwrap();
    let kept = Domain::create(&domains.join("kept")).unwrap();
    fs::rename(domains.join("left"), domains.join(".gone-1")).unwrap();
    fs::rename(domains.join("busy"), domains.join(".new-2")).unwrap();
    // A remove was killed half-way, a create has not come to its lock.
    Domain::create(&domains.join("half")).unwrap();
    fs::rename(domains.join("half"), domains.join(".gone-3")).unwrap();
    fs::remove_file(domains.join(".gone-3/secret")).unwrap();
    fs::remove_dir(domains.join(".gone-3/objects")).unwrap();
    fs::create_dir(domains.join(".new-4")).unwrap();
    fs::write(domains.join(".new-4/lock"), "").unwrap();
    let lock = busy.lock_exclusive().unwrap();
    Domain::prepare_state_root(&root).unwrap();
    assert!(!domains.join(".gone-1").exists());
    assert!(!domains.join(".gone-3").exists());
    assert!(domains.join(".new-2").exists() && domains.join(".new-4").exists());
    assert!(domains.join("kept").exists());
    drop((left, lock, kept));

    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Domain::prepare_state_root(&root).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn removing_needs_everybody_gone_and_leaves_nothing() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(1, 5000);
    let (file, offsets) = blob(setup.root.path(), &[&content]);
    let source = keeper.mount(key(1), &file);
    let publish = whole(key(1), 1, None, source, offsets[0], content.len());
    assert!(matches!(keeper.publish(&publish), Outcome::Published(_)));
    assert_eq!(Domain::remove(&setup.path()).unwrap_err().kind(), ErrorKind::Busy);
    assert!(setup.domain.objects().contains(&sha256(&content)));
    keeper.end();
    Domain::remove(&setup.path()).unwrap();
    assert_eq!(fs::read_dir(setup.root.path()).unwrap().count(), 0);
    assert!(matches!(setup.domain.lock_shared(), Err(Error::NotFound { .. })), "who had it open is told");
    assert!(matches!(Domain::remove(&setup.path()), Err(Error::NotFound { .. })));
}

#[test]
fn other_boots_leave_nothing_behind() {
    let setup = Setup::new();
    let old = setup.path().join("fresh/00000000-0000-0000-0000-000000000000");
    fs::create_dir_all(old.join(".v/x")).unwrap();
    fs::write(old.join(".v/x/1"), b"torn").unwrap();
    let first = setup.domain.lock_shared().unwrap();
    assert!(!old.exists(), "whoever comes first cleans");
    fs::create_dir_all(&old).unwrap();
    let second = setup.domain.lock_shared().unwrap();
    assert!(old.exists(), "not while somebody has a mount");
    drop((first, second));
}

#[test]
fn a_torn_tail_of_facts_does_not_hurt_the_next_ones() {
    let setup = Setup::new();
    let files = [bytes(1, 3000), bytes(2, 3000)];
    let (file, offsets) = blob(setup.root.path(), &[&files[0], &files[1]]);
    for (nid, content) in (0..).zip(&files) {
        let keeper = setup.keeper();
        let source = keeper.mount(key(1), &file);
        let publish = whole(key(1), nid, None, source, offsets[usize::try_from(nid).unwrap()], 3000);
        assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(content)));
        keeper.end();
        let path = setup.path().join("images").join(key(1).to_hex());
        let mut log = fs::OpenOptions::new().append(true).open(path).unwrap();
        log.write_all(&[0xaa; 33]).unwrap();
    }
    let facts = setup.domain.facts(&key(1)).unwrap();
    assert_eq!(facts.get(0), Some(sha256(&files[0])));
    assert_eq!(facts.get(1), Some(sha256(&files[1])));

    // A file that is no facts file at all is begun anew.
    fs::write(setup.path().join("images").join(key(1).to_hex()), vec![7; 1000]).unwrap();
    assert!(setup.domain.facts(&key(1)).unwrap().is_empty());
    assert_eq!(setup.domain.verify(false).unwrap().problems.len(), 1);
    let keeper = setup.keeper();
    let source = keeper.mount(key(1), &file);
    let publish = whole(key(1), 0, None, source, offsets[0], 3000);
    assert_eq!(keeper.publish(&publish), Outcome::Published(sha256(&files[0])));
    keeper.end();
    assert_eq!(setup.domain.facts(&key(1)).unwrap().len(), 1);
    assert_eq!(setup.domain.verify(false).unwrap().problems, []);
}

#[test]
fn verify_finds_a_changed_object_and_puts_it_aside() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let files = [bytes(1, 100_000), bytes(2, 100)];
    let (file, offsets) = blob(setup.root.path(), &[&files[0], &files[1]]);
    let source = keeper.mount(key(1), &file);
    for (nid, content) in (0..).zip(&files) {
        let publish = whole(key(1), nid, None, source, offsets[usize::try_from(nid).unwrap()], content.len());
        assert!(matches!(keeper.publish(&publish), Outcome::Published(_)));
    }
    keeper.client.flush().unwrap();
    let digest = sha256(&files[0]);
    let object = setup.object(&digest);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, b"other bytes").unwrap();
    fs::write(setup.path().join("objects/stranger"), b"").unwrap();

    let report = setup.domain.verify(false).unwrap();
    assert_eq!((report.objects, report.facts), (2, 2));
    assert_eq!(report.problems.len(), 2);
    let bad = report.problems.iter().find(|problem| problem.found.is_some()).unwrap();
    assert_eq!(bad.path, format!("objects/{}", digest.object_path()));
    assert_eq!(bad.found.as_deref(), Some(sha256(b"other bytes").to_hex().as_str()));
    assert_eq!(setup.domain.verify(true).unwrap_err().kind(), ErrorKind::Busy, "not under a mount");
    keeper.end();

    assert!(setup.domain.verify(true).unwrap().problems.iter().all(|problem| problem.repaired));
    assert!(!object.exists() && !setup.fresh().exists());
    assert_eq!(fs::read_dir(setup.path().join("quarantine")).unwrap().count(), 2);
    assert_eq!(setup.domain.verify(false).unwrap().problems, []);
    // The fact stands, the object does not: it is made again from the image's bytes.
    let keeper = setup.keeper();
    let source = keeper.mount(key(1), &file);
    let publish = whole(key(1), 0, Some(digest), source, offsets[0], 100_000);
    assert_eq!(keeper.publish(&publish), Outcome::Published(digest));
    keeper.end();
    assert_eq!(fs::read(&object).unwrap(), files[0]);
}
