//! Images in a domain: the `overlay` back end, and `fuse` with passthrough.
#![forbid(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::images::{BIG, build_image, bytes, describe, lie_about, make_tree, sha256};
use common::{Server, Tree, can_mount, scratch};
use erofs_store::Digest;
use erofs_sys::cachestat;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

type MountAs = fn(&Server, &Path) -> Tree;

/// The back ends that share.
const BACK_ENDS: [(&str, MountAs); 2] = [("overlay", Server::overlay), ("passthrough", Server::passthrough)];

/// A place for images, and a server in a new domain.
struct Case {
    place: TempDir,
    server: Server,
}

impl Case {
    fn new() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let place = scratch();
        let server = Server::in_domain(&place.path().join("domain"));
        Some(Self { place, server })
    }

    /// An image of files, by name and content.
    fn image(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let source = self.place.path().join(format!("{name}.d"));
        fs::create_dir(&source).unwrap();
        for (file, content) in files {
            fs::write(source.join(file), content).unwrap();
        }
        let image = self.place.path().join(name);
        build_image(&source, &image);
        image
    }

    /// Pages of an object that are cached.
    fn cached(&self, content: &[u8]) -> u64 {
        let objects = self.server.domain.as_ref().unwrap().objects();
        let object = objects.open(&Digest(sha256(content))).unwrap().expect("there is no such object");
        cachestat(&object, 0, 0).unwrap().cached
    }
}

/// The error number of reading a file.
fn refused(path: PathBuf) -> Option<i32> {
    fs::read(path).unwrap_err().raw_os_error()
}

const CORRUPT: Option<i32> = Some(Errno::UCLEAN.raw_os_error());

#[test]
fn the_mounted_tree_is_the_tree_that_was_built_on_the_first_mount_and_later() {
    let Some(case) = Case::new() else { return };
    let source = case.place.path().join("source");
    fs::create_dir(&source).unwrap();
    make_tree(&source);
    let image = case.place.path().join("image");
    build_image(&source, &image);
    let built = describe(&source);
    for (back_end, mount) in BACK_ENDS {
        for round in ["first", "second"] {
            let tree = mount(&case.server, &image);
            let mut shown = describe(&tree.path(""));
            if back_end == "overlay" {
                let odd = fs::metadata(tree.path("zero-zero")).unwrap();
                assert!(odd.file_type().is_char_device() && odd.rdev() == 1, "a whiteout in an image");
                // The one number that can't be shown; see `Shown::UnderOverlay`.
                shown.iter_mut().filter(|line| line.starts_with("/zero-zero ")).for_each(|line| {
                    *line = line.replacen(" 0:0 1 ", " 0:0 0 ", 1);
                });
            }
            for (shown, built) in shown.iter().zip(&built) {
                assert_eq!(shown, built, "{back_end}, {round} mount");
            }
            assert_eq!(shown.len(), built.len());
        }
    }
}

#[test]
fn a_file_of_two_images_is_read_once() {
    for (back_end, mount) in BACK_ENDS {
        let Some(case) = Case::new() else { return };
        let content = bytes(7, BIG);
        let one = case.image("one", &[("a", &content)]);
        let two = case.image("two", &[("other name", &content), ("more", b"more")]);
        let (first, second) = (mount(&case.server, &one), mount(&case.server, &two));
        assert!(fs::read(first.path("a")).unwrap() == content, "{back_end}");
        assert_eq!(case.cached(&content), BIG.div_ceil(4096) as u64);
        let before = case.server.requests();
        assert!(fs::read(second.path("other name")).unwrap() == content, "{back_end}");
        assert!(fs::read(first.path("a")).unwrap() == content, "{back_end}");
        let asked = case.server.requests() - before;
        assert!(asked < 20, "{back_end}: {asked} requests: bytes went through the server");
        assert_eq!(case.cached(&content), BIG.div_ceil(4096) as u64);
        for image in [one, two] {
            let left = cachestat(File::open(image).unwrap(), 0, 0).unwrap().cached;
            assert!(left < 600, "{back_end}: {left} pages of the image are a second copy");
        }
    }
}

#[test]
fn a_false_claim_neither_poisons_nor_discloses() {
    for (back_end, mount) in BACK_ENDS {
        for victim_first in [true, false] {
            let Some(case) = Case::new() else { return };
            let (secret, evil, honest) = (bytes(1, 70_000), bytes(2, 70_000), bytes(3, 70_000));
            let victim = case.image("victim", &[("secret", &secret)]);
            let liar = case.image("liar", &[("evil", &evil), ("honest", &honest)]);
            lie_about(&liar, &evil, &secret);
            let victim_tree = mount(&case.server, &victim);
            if victim_first {
                assert!(fs::read(victim_tree.path("secret")).unwrap() == secret);
            }
            for _ in 0..2 {
                let tree = mount(&case.server, &liar);
                assert_eq!(refused(tree.path("evil")), CORRUPT, "{back_end}, victim first: {victim_first}");
                assert_eq!(refused(tree.path("evil")), CORRUPT, "{back_end}, the second time");
                assert!(fs::read(tree.path("honest")).unwrap() == honest, "{back_end}");
            }
            assert!(fs::read(victim_tree.path("secret")).unwrap() == secret, "{back_end}");
            let again = mount(&case.server, &victim);
            assert!(fs::read(again.path("secret")).unwrap() == secret, "{back_end}");
        }
    }
}

#[test]
fn a_keeper_that_hangs_delays_but_does_not_stop_readers() {
    for (back_end, mount) in BACK_ENDS {
        let Some(case) = Case::new() else { return };
        let content = bytes(5, 300_000);
        let image =
            case.image("image", &[("a", &content), ("b", &bytes(6, 300_000)), ("c", &bytes(12, 9000))]);
        let tree = mount(&case.server, &image);
        case.server.stop_keeper();
        // A signal ends the wait at once.
        let start = Instant::now();
        let mut reader = Command::new("cat").arg(tree.inherit("b")).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert!(start.elapsed() < Duration::from_millis(800), "{back_end}: the reader could not be killed");
        // Another signal is none of the file's business.
        let script = "trap : USR1; exec 3<\"$0\" && exec cat <&3";
        let mut signalled = Command::new("bash");
        signalled.args(["-c", script]).arg(tree.inherit("c")).stdout(Stdio::piped());
        let signalled = signalled.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        kill_process(Pid::from_child(&signalled), Signal::USR1).unwrap();
        let output = signalled.wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout == bytes(12, 9000), "{back_end}: {output:?}");
        // Patience ends by itself.
        let start = Instant::now();
        let mut held = File::open(tree.path("a")).unwrap();
        assert!(start.elapsed() < Duration::from_secs(4), "{back_end}");
        let mut got = Vec::new();
        held.read_to_end(&mut got).unwrap();
        assert!(got == content, "{back_end}: unshared");
        case.server.continue_keeper();
        // All opens of a file are alike while one of them lasts.
        assert!(fs::read(tree.path("a")).unwrap() == content, "{back_end}");
        drop(held);
        // The keeper first has to do what it was asked before.
        let late = Instant::now() + Duration::from_secs(20);
        loop {
            let tree = mount(&case.server, &image);
            assert!(fs::read(tree.path("a")).unwrap() == content, "{back_end}");
            let before = case.server.requests();
            assert!(fs::read(tree.path("a")).unwrap() == content, "{back_end}");
            if case.server.requests() - before < 3 {
                break;
            }
            assert!(Instant::now() < late, "{back_end}: it is shared by now");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn without_its_keeper_a_mount_goes_on_unshared() {
    for (back_end, mount) in BACK_ENDS {
        let Some(mut case) = Case::new() else { return };
        let (before, after) = (bytes(8, 100_000), bytes(9, 100_000));
        let image =
            case.image("image", &[("before", &before), ("after", &after), ("evil", &bytes(10, 5000))]);
        lie_about(&image, &bytes(10, 5000), &after);
        let tree = mount(&case.server, &image);
        assert!(fs::read(tree.path("before")).unwrap() == before);
        assert_eq!(refused(tree.path("evil")), CORRUPT);
        case.server.kill_keeper();
        let locked = case.server.domain.as_ref().unwrap().lock_exclusive();
        assert!(locked.is_err(), "{back_end}: somebody could remove objects that are in use");
        assert!(fs::read(tree.path("before")).unwrap() == before, "{back_end}");
        assert!(fs::read(tree.path("after")).unwrap() == after, "{back_end}");
        assert_eq!(refused(tree.path("evil")), CORRUPT, "{back_end}");
    }
}

#[test]
fn many_readers_of_one_new_file_join_one_flight() {
    for (back_end, mount) in BACK_ENDS {
        let Some(case) = Case::new() else { return };
        let content = bytes(11, BIG);
        let image = case.image("image", &[("a", &content)]);
        let tree = mount(&case.server, &image);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert!(fs::read(tree.path("a")).unwrap() == content, "{back_end}");
                    }
                });
            }
        });
    }
}
