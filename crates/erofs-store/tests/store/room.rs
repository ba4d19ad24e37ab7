//! Room: limits, eviction, garbage, full disks.

use crate::common::Keeper;
use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::key;
use crate::common::sha256;
use crate::common::whole;
use crate::process::skip;
use erofs_store::Digest;
use erofs_store::Domain;
use erofs_store::ErrorKind;
use erofs_store::GcOptions;
use erofs_store::ImageKey;
use erofs_store::Outcome;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Mounts an image that holds the files, and publishes them all.
fn publish_all(setup: &Setup, keeper: &Keeper, key: ImageKey, files: &[&[u8]]) -> Vec<Outcome> {
    let (file, offsets) = blob(setup.root.path(), files);
    let source = keeper.mount(key, &file);
    let nids = 0..;
    nids.zip(files.iter().zip(offsets))
        .map(|(nid, (content, offset))| keeper.publish(&whole(key, nid, None, source, offset, content.len())))
        .collect()
}

fn has(setup: &Setup, content: &[u8]) -> bool {
    setup.domain.objects().contains(&sha256(content))
}

#[test]
fn over_the_limit_the_image_that_was_mounted_longest_ago_goes_first() {
    let setup = Setup::new();
    setup.domain.set_limit(Some(5 * MIB as u64)).unwrap();
    let files: Vec<Vec<u8>> = (0..8).map(|i| bytes(i + 1, MIB)).collect();
    let shared = bytes(100, MIB / 2);
    // Three images, mounted one after the other; the last mount and unmount is what counts.
    for (image, file) in [(1, &files[1]), (2, &files[2]), (3, &files[3])] {
        let keeper = setup.keeper();
        let outcomes = publish_all(&setup, &keeper, key(image), &[file, &shared]);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Published(_))));
        keeper.client.flush().unwrap();
        keeper.end();
        thread::sleep(Duration::from_millis(1100));
    }
    let keeper = setup.keeper();
    keeper.client.flush().unwrap();
    let outcomes = publish_all(&setup, &keeper, key(4), &[&files[4], &shared]);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Published(_))));
    assert!(has(&setup, &files[1]), "within the limit");
    let outcomes = publish_all(&setup, &keeper, key(5), &[&files[5]]);
    assert!(matches!(outcomes[0], Outcome::Published(_)));
    assert!(!has(&setup, &files[1]), "the oldest had to go");
    assert!(has(&setup, &files[2]) && has(&setup, &files[3]), "no more than needed");
    assert!(has(&setup, &shared), "a mounted image has it too");

    // Everything left is mounted, or goes now; then there is no room any more.
    let outcomes = publish_all(&setup, &keeper, key(6), &[&files[6], &files[7], &bytes(50, MIB)]);
    assert_eq!(outcomes[2], Outcome::NoSpace);
    assert!(!has(&setup, &files[2]) && !has(&setup, &files[3]));
    assert!(has(&setup, &files[4]) && has(&setup, &files[5]) && has(&setup, &shared));
    keeper.end();
    assert_eq!(setup.domain.verify(false).unwrap().problems, []);
}

#[test]
fn an_evicted_object_is_made_again() {
    let setup = Setup::new();
    setup.domain.set_limit(Some(3 * MIB as u64)).unwrap();
    let (one, two) = (bytes(1, 2 * MIB), bytes(2, 2 * MIB));
    for image in [1, 2, 1] {
        let keeper = setup.keeper();
        keeper.client.flush().unwrap();
        let content = if image == 1 { &one } else { &two };
        let outcomes = publish_all(&setup, &keeper, key(image), &[content]);
        assert_eq!(outcomes, [Outcome::Published(sha256(content))]);
        assert!(has(&setup, content));
        assert!(setup.by_nid(&key(image), 0).exists());
        keeper.end();
    }
    assert!(!has(&setup, &two));
    assert!(!setup.by_nid(&key(2), 0).exists(), "a name would keep the blocks");
}

#[test]
fn a_full_disk_is_no_space_and_nothing_half_written() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can mount a small filesystem");
    }
    let setup = Setup::new();
    let place = setup.root.path().join("small");
    fs::create_dir(&place).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m,mode=700", "none"]).arg(&place).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skip("no tmpfs can be mounted");
    }
    let result = std::panic::catch_unwind(|| {
        let domain = Domain::create(&place.join("d")).unwrap();
        domain.set_limit(Some(1 << 40)).unwrap();
        let keeper = Keeper::start(&domain);
        let files: Vec<Vec<u8>> = (0..4).map(|i| bytes(i + 1, 2 * MIB)).collect();
        let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let outcomes = publish_all(&setup, &keeper, key(1), &slices);
        assert!(matches!(outcomes[0], Outcome::Published(_)));
        assert_eq!(outcomes[3], Outcome::NoSpace);
        keeper.end();
        let report = domain.verify(false).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(
            report.objects,
            outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Published(_))).count() as u64
        );
        assert!(domain.stat(&[]).unwrap().in_memory);
    });
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    result.unwrap();
}

#[test]
fn gc_removes_what_nobody_can_use_and_only_that() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let files: Vec<Vec<u8>> = (0..3).map(|i| bytes(i + 1, 10_000)).collect();
    publish_all(&setup, &keeper, key(1), &[&files[0], &files[1]]);
    publish_all(&setup, &keeper, key(2), &[&files[1], &files[2]]);
    assert_eq!(setup.domain.gc(&GcOptions::default()).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(setup.domain.mounted_images().unwrap().len(), 2);
    keeper.client.unmount_image(&key(1));
    keeper.client.flush().unwrap();
    assert_eq!(setup.domain.mounted_images().unwrap(), [key(2)]);
    keeper.end();
    assert_eq!(setup.domain.mounted_images().unwrap(), []);

    let orphan = setup.object(&Digest([0xab; 32]));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"nobody's").unwrap();
    fs::write(setup.path().join("images/.tmp-1"), b"half").unwrap();
    let old = setup.path().join("fresh/0-old");
    fs::create_dir(&old).unwrap();

    let dry = setup.domain.gc(&GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    assert_eq!((dry.objects, dry.remaining_objects), (1, 3));
    assert!(orphan.exists());
    let report = setup.domain.gc(&GcOptions::default()).unwrap();
    assert_eq!((report.objects, report.remaining_objects), (1, 3));
    assert!(!orphan.exists() && !setup.path().join("images/.tmp-1").exists() && !old.exists());
    assert!(files.iter().all(|file| has(&setup, file)));
    assert_eq!(setup.domain.facts(&key(1)).unwrap().len(), 2);

    let report = setup.domain.gc(&GcOptions { keep_bytes: Some(0), ..GcOptions::default() }).unwrap();
    assert_eq!((report.objects, report.remaining_disk_bytes), (3, 0));
    assert_eq!(setup.domain.facts(&key(1)).unwrap().len(), 2, "facts stay: nothing is hashed twice");
    thread::sleep(Duration::from_millis(1100));
    let report = setup.domain.gc(&GcOptions { older_than: Some(0), ..GcOptions::default() }).unwrap();
    assert_eq!(report.images.len(), 2);
    assert!(setup.domain.facts(&key(1)).unwrap().is_empty());
}

#[test]
fn gc_saves_what_a_killed_keeper_had_not_made_durable() {
    let setup = Setup::new();
    let keeper = setup.keeper();
    let content = bytes(1, 10_000);
    publish_all(&setup, &keeper, key(1), &[&content]);
    keeper.client.flush().unwrap();
    keeper.end();
    // As if the batch had never come.
    fs::remove_file(setup.object(&sha256(&content))).unwrap();
    let report = setup.domain.gc(&GcOptions::default()).unwrap();
    assert_eq!((report.promoted, report.objects, report.remaining_objects), (1, 0, 1));
    assert_eq!(fs::read(setup.object(&sha256(&content))).unwrap(), content);
}

#[test]
fn two_keepers_at_once_share_one_inode() {
    let setup = Setup::new();
    let keepers = [setup.keeper(), setup.keeper()];
    let files: Vec<Vec<u8>> = (0..40).map(|i| bytes(i + 1, 30_000)).collect();
    let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    thread::scope(|scope| {
        for (image, keeper) in (1..).zip(&keepers) {
            let (setup, slices) = (&setup, &slices);
            scope.spawn(move || {
                let outcomes = publish_all(setup, keeper, key(image), slices);
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Published(_))));
            });
        }
    });
    for nid in 0..40 {
        let inodes = [1, 2].map(|image| crate::common::inode(&setup.by_nid(&key(image), nid)).0);
        assert_eq!(inodes[0], inodes[1]);
    }
    keepers.into_iter().for_each(Keeper::end);
    assert_eq!(setup.domain.verify(false).unwrap().problems, []);
    assert_eq!(setup.domain.stat(&[]).unwrap().objects, 40);
}
