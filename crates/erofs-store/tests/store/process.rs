//! Keepers as processes: killed, unprivileged, closed in.

use crate::common::LONG;
use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::inode;
use crate::common::key;
use crate::common::pair;
use crate::common::sha256;
use crate::common::whole;
use erofs_store::Digest;
use erofs_store::Domain;
use erofs_store::ImageMount;
use erofs_store::KeeperClient;
use erofs_store::Outcome;
use erofs_store::keeper;
use std::env;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const CONFIG: &str = "STORE_TEST_KEEPER";

/// What the other tests start, in a process of its own.
#[test]
#[ignore = "the keeper that other tests start"]
fn keeper_process() {
    if let Ok(config) = env::var(CONFIG) {
        keeper::main(&config).unwrap();
    }
}

fn config(socket: &OwnedFd, path: &Path) -> String {
    format!(r#"{{"v":1,"socket":{},"domain":"{}"}}"#, socket.as_raw_fd(), path.display())
}

/// Starts a keeper on the domain, perhaps as another user.
fn start(binary: &Path, path: &Path, user: Option<u32>) -> (Child, KeeperClient) {
    let (ours, theirs) = pair();
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    let config = config(&theirs, path);
    let mut command = Command::new(binary);
    command.args(["--ignored", "--exact", "process::keeper_process"]).env(CONFIG, config);
    command.stdout(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user).current_dir("/");
    }
    (command.spawn().unwrap(), KeeperClient::new(ours).unwrap())
}

/// Publishes `count` files and returns the channel of what becomes of them.
fn publish_many(
    setup: &Setup,
    client: &KeeperClient,
    count: u64,
    len: usize,
) -> (Vec<Digest>, mpsc::Receiver<(u64, Outcome)>) {
    let files: Vec<Vec<u8>> = (0..count).map(|i| bytes(i + 1, len)).collect();
    let slices: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (blob, offsets) = blob(setup.root.path(), &slices);
    let source = client.register_source(blob.as_fd()).unwrap();
    client.mount_image(&ImageMount { key: key(1), name: "many".into(), sources: vec![source] }).unwrap();
    let digests: Vec<Digest> = files.iter().map(|file| sha256(file)).collect();
    let (sender, receiver) = mpsc::channel();
    for (nid, (digest, offset)) in (0..count).zip(digests.iter().zip(offsets)) {
        let sender = sender.clone();
        let publish = whole(key(1), nid, Some(*digest), source, offset, len);
        client.publish(&publish, move |outcome| sender.send((nid, outcome)).unwrap_or_default());
    }
    (digests, receiver)
}

/// Every object under either root is what its name says, and unwritable.
fn assert_whole(domain: &Domain) {
    let report = domain.verify(false).unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn a_keeper_killed_in_the_middle_leaves_only_whole_objects() {
    for round in 0..6 {
        let setup = Setup::new();
        let (mut child, client) = start(&env::current_exe().unwrap(), &setup.path(), None);
        let (digests, outcomes) = publish_many(&setup, &client, 300, 20_000);
        // A different moment each time; the last after a batch was made durable.
        for _ in 0..round * 45 {
            outcomes.recv_timeout(LONG).unwrap();
        }
        if round == 5 {
            client.flush().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let mut answered = round * 45;
        while let Ok((_, outcome)) = outcomes.recv_timeout(LONG) {
            answered += 1;
            assert!(matches!(outcome, Outcome::Published(_) | Outcome::Io(32)));
        }
        assert_eq!(answered, 300, "everybody is told");
        assert_whole(&setup.domain);
        for (nid, digest) in (0..300).zip(&digests) {
            if let Some(fact) = setup.domain.facts(&key(1)).unwrap().get(nid) {
                assert_eq!(fact, *digest);
            }
        }

        // The next keeper goes on where that one stopped.
        let keeper = setup.keeper();
        let (blob, _) = blob(setup.root.path(), &[&bytes(1, 20_000)]);
        let source = keeper.mount(key(1), &blob);
        let publish = whole(key(1), 0, Some(digests[0]), source, 0, 20_000);
        assert_eq!(keeper.publish(&publish), Outcome::Published(digests[0]));
        keeper.end();
        assert_eq!(inode(&setup.object(&digests[0])).0, inode(&setup.by_nid(&key(1), 0)).0);
        assert_whole(&setup.domain);
        let facts = setup.domain.facts(&key(1)).unwrap();
        let left = (0..300).filter(|nid| facts.get(*nid).is_some()).count();
        assert_eq!(left, facts.len());
    }
}

#[test]
fn the_end_of_the_server_makes_everything_durable() {
    let setup = Setup::new();
    let (mut child, client) = start(&env::current_exe().unwrap(), &setup.path(), None);
    let (digests, outcomes) = publish_many(&setup, &client, 50, 5000);
    for _ in 0..50 {
        assert!(matches!(outcomes.recv_timeout(LONG).unwrap().1, Outcome::Published(_)));
    }
    drop(client);
    assert!(child.wait().unwrap().success());
    assert!(digests.iter().all(|digest| setup.object(digest).exists()));
    assert_eq!(setup.domain.facts(&key(1)).unwrap().len(), 50);
}

#[test]
fn an_ordinary_user_needs_nothing_special() {
    const USER: u32 = 54321;
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another user");
    }
    let setup = Setup::new();
    // The directories above may be closed to others.
    let place = tempfile::Builder::new().prefix("store-user-").tempdir_in("/var/tmp").unwrap();
    let path = place.path().join("d");
    Domain::create(&path).unwrap();
    let made = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(place.path()).status();
    assert!(made.unwrap().success());
    let binary = place.path().join("store");
    fs::copy(env::current_exe().unwrap(), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();

    let (mut child, client) = start(&binary, &path, Some(USER));
    let (digests, outcomes) = publish_many(&setup, &client, 20, 9000);
    for _ in 0..20 {
        assert!(matches!(outcomes.recv_timeout(LONG).unwrap().1, Outcome::Published(_)));
    }
    // Nobody but root may look into it.
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let bound = threads
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap())
        .filter(|status| status.contains("Name:\tkeeper-"))
        .inspect(|status| assert!(status.contains("NoNewPrivs:\t1"), "{status}"));
    assert!(bound.count() >= 4);
    assert_eq!(
        fs::metadata(format!("/proc/{}/fd", child.id()))
            .map(|fd| std::os::unix::fs::MetadataExt::uid(&fd))
            .unwrap(),
        0
    );
    drop(client);
    assert!(child.wait().unwrap().success());
    for digest in digests {
        let object = path.join("objects").join(digest.object_path());
        assert_eq!(fs::metadata(object).unwrap().permissions().mode() & 0o7777, 0o444);
    }
    // And root is told that it is not its own.
    let error = Domain::open(&path).unwrap_err();
    assert_eq!(error.kind(), erofs_store::ErrorKind::Refused);
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_a_sentence() {
    for (config, word) in [
        ("", "EOF"),
        ("{}", "missing"),
        (r#"{"v":2,"socket":0,"domain":"/"}"#, "version"),
        (r#"{"v":1,"socket":0,"domain":"/","more":1}"#, "unknown"),
        (r#"{"v":1,"socket":-1,"domain":"/"}"#, "socket"),
        (r#"{"v":1,"socket":0,"domain":"/does/not/exist"}"#, "no such domain"),
    ] {
        let error = keeper::main(config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_mount_waits_for_gc_and_gc_does_not_wait_for_a_mount() {
    let setup = Setup::new();
    let exclusive = setup.domain.lock_exclusive().unwrap();
    let domain = setup.domain.clone();
    let mount = thread::spawn(move || domain.lock_shared().map(drop));
    thread::sleep(Duration::from_millis(100));
    assert!(!mount.is_finished());
    drop(exclusive);
    mount.join().unwrap().unwrap();
    let shared = setup.domain.lock_shared().unwrap();
    let second = setup.domain.lock_shared().unwrap();
    let error = setup.domain.lock_exclusive().unwrap_err();
    assert_eq!(error.kind(), erofs_store::ErrorKind::Busy);
    // It is the open file that counts: whoever inherits it keeps the lock.
    let inherited = shared.as_fd().try_clone_to_owned().unwrap();
    drop((shared, second));
    assert!(setup.domain.lock_exclusive().is_err());
    drop(inherited);
    setup.domain.lock_exclusive().unwrap();
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub(crate) fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
