//! Real mounts, as root. Skipped with the reason where there is no /dev/fuse or no right to mount.
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::items_after_statements)]

mod support;

use fuse_dev::{Config, Connection, Ended, Errno, Error, Filesystem};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use support::{Content, Memory, Mount, Node, Server, count, skip, wait_for};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_large_directory_is_listed_whole_and_with_attributes() {
    let Some(mount) = Mount::new() else { return };
    let mut memory = Memory::new(vec![]);
    let big = memory.add(1, "big", Node::Directory([].into()));
    for number in 0..10_000 {
        memory.add(big, &format!("{number:05}-{}", "x".repeat(number % 200)), Memory::file("abc"));
    }
    let memory = Arc::new(memory);
    let server = Server::start(1);
    server.serve(&mount, &memory, Config::default());
    let mut names = Vec::new();
    for entry in fs::read_dir(mount.path("big")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().len(), 3);
        names.push(entry.file_name().into_string().unwrap());
    }
    assert_eq!(names.len(), 10_000);
    assert!(names.is_sorted());
    assert_eq!(count(&memory.counts.lookup), 1, "attributes came with the entries");

    let plain = Mount::new().unwrap();
    server.serve(&plain, &memory, Config { readdirplus: false, ..Config::default() });
    let before = count(&memory.counts.readdirplus);
    assert_eq!(fs::read_dir(plain.path("big")).unwrap().count(), 10_000);
    assert_eq!(count(&memory.counts.readdirplus), before);
}

#[test]
fn files_links_attributes_and_xattrs_are_what_the_filesystem_says() {
    let Some(mount) = Mount::new() else { return };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    let mut memory = Memory::new(vec![
        ("file", Memory::file(bytes.clone())),
        ("late", Node::File(Content::Late(b"from another thread".to_vec()))),
        ("link", Node::Link(b"file".to_vec())),
    ]);
    memory.xattrs.insert(b"user.one".to_vec(), b"1".to_vec());
    memory.xattrs.insert(b"user.two".to_vec(), vec![2; 3000]);
    let server = Server::start(1);
    server.serve(&mount, &Arc::new(memory), Config::default());

    assert_eq!(fs::read(mount.path("file")).unwrap(), bytes);
    assert_eq!(fs::read(mount.path("link")).unwrap(), bytes);
    assert_eq!(fs::read(mount.path("late")).unwrap(), b"from another thread");
    assert_eq!(fs::read_link(mount.path("link")).unwrap().to_str(), Some("file"));
    let metadata = fs::metadata(mount.path("file")).unwrap();
    assert_eq!((metadata.mode(), metadata.ino(), metadata.mtime()), (0o100_644, 1002, -5));

    let mut names = vec![0; 100];
    let length = rustix::fs::listxattr(mount.path("file"), names.as_mut_slice()).unwrap();
    assert_eq!(&names[..length], b"user.one\0user.two\0");
    let mut value = vec![0; 4096];
    let get = |name, value: &mut [u8]| rustix::fs::getxattr(mount.path("file"), name, value);
    assert_eq!(get(c"user.two", &mut value), Ok(3000));
    assert_eq!(get(c"user.two", &mut value[..10]), Err(Errno::RANGE));
    assert_eq!(get(c"user.three", &mut value), Err(Errno::NODATA));
    let totals = rustix::fs::statvfs(mount.root()).unwrap();
    assert_eq!((totals.f_blocks, totals.f_files, totals.f_namemax), (12, 4, 255));
}

#[test]
fn a_missing_name_is_asked_for_once() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![]));
    let server = Server::start(1);
    server.serve(&mount, &memory, Config::default());
    for _ in 0..100 {
        assert_eq!(fs::metadata(mount.path("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(count(&memory.counts.lookup), 1);
}

#[test]
fn opening_a_file_needs_no_message_after_the_first() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![("file", Memory::file("content"))]));
    let server = Server::start(1);
    let (connection, _) = server.serve(&mount, &memory, Config::default());
    for _ in 0..100 {
        assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
    }
    assert_eq!((count(&memory.counts.open), count(&memory.counts.read)), (1, 1));
    assert!(connection.requests() < 20, "{} requests", connection.requests());
}

#[test]
fn whatever_would_change_something_is_refused() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![("file", Memory::file("content"))]));
    let server = Server::start(1);
    server.serve(&mount, &memory, Config::default());
    let refusals = [
        fs::write(mount.path("new"), b"x"),
        fs::create_dir(mount.path("new")),
        fs::remove_file(mount.path("file")),
        fs::rename(mount.path("file"), mount.path("other")),
        fs::hard_link(mount.path("file"), mount.path("other")),
        std::os::unix::fs::symlink("file", mount.path("other")),
        fs::set_permissions(mount.path("file"), fs::Permissions::from_mode(0o600)),
        rustix::fs::setxattr(mount.path("file"), c"user.a", b"1", rustix::fs::XattrFlags::empty())
            .map_err(Into::into),
        File::options()
            .write(true)
            .open(mount.path("file"))
            .and_then(|file| file.write_at(b"x", 0).map(drop)),
    ];
    for (place, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(refusal.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem, "number {place}");
    }
}

#[test]
fn a_process_that_waits_for_a_slow_lookup_can_be_killed() {
    for threads in [1, 2] {
        let Some(mount) = Mount::new() else { return };
        let memory = Arc::new(Memory::new(vec![]));
        let server = Server::start(threads);
        server.serve(&mount, &memory, Config::default());
        for round in 1..=20 {
            let mut child =
                Command::new("stat").arg(mount.path("slow")).stderr(Stdio::null()).spawn().unwrap();
            wait_for("the look-up", || memory.slow.load(Ordering::SeqCst) == round);
            let start = Instant::now();
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        assert!(memory.pending.is_empty());
    }
}

#[test]
fn unmounting_ends_the_service() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![]));
    let server = Server::start(2);
    let (_connection, ended) = server.serve(&mount, &memory, Config::default());
    fs::metadata(mount.root()).unwrap();
    assert_eq!(server.handle.connections(), 1);
    mount.unmount();
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Ended::Unmounted));
    assert!(ended.recv_timeout(Duration::from_millis(50)).is_err(), "reported once");
    assert_eq!(server.handle.connections(), 0);
    assert_eq!(count(&memory.counts.destroyed), 1);
}

#[test]
fn another_server_takes_over_in_the_middle_of_a_read() {
    let Some(mount) = Mount::new() else { return };
    let dying = Arc::new(Memory::new(vec![("file", Node::File(Content::Parked(b"whole content".to_vec())))]));
    let first = Server::start(1);
    let (connection, _) = first.serve(&mount, &dying, Config::default());
    let reader = {
        let path = mount.path("file");
        thread::spawn(move || fs::read(path))
    };
    wait_for("the READ", || !dying.pending.is_empty());
    let negotiated = connection.negotiated().unwrap();
    if !negotiated.can_resend() {
        skip::<()>("no FUSE_HAS_RESEND before Linux 6.9");
        return;
    }
    first.stop();
    dying.pending.abandon();
    drop(connection);

    let successor = Arc::new(Memory::new(vec![("file", Memory::file("whole content"))]));
    let second = Server::start(1);
    let filesystem = Arc::clone(&successor) as Arc<dyn Filesystem>;
    let connection = Arc::new(Connection::resume(mount.device(), negotiated, filesystem).unwrap());
    second.handle.add(Arc::clone(&connection), |_| {}).unwrap();
    connection.resend().unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), b"whole content");
    assert_eq!(count(&successor.counts.resent), 1);
    assert_eq!(*successor.negotiated.lock().unwrap(), Some(negotiated));
    assert_eq!(fs::metadata(mount.path("file")).unwrap().len(), 13);
    assert_eq!(count(&dying.counts.destroyed), 0, "it was not unmounted");
}

#[test]
fn a_cloned_descriptor_serves_the_same_mount() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![("file", Memory::file("content"))]));
    let first = Server::start(1);
    let (connection, _) = first.serve(&mount, &memory, Config::default());
    fs::metadata(mount.path("file")).unwrap();
    let negotiated = connection.negotiated().unwrap();
    let clone = erofs_sys::fuse::clone_device(&mount.device).unwrap();
    first.stop();

    let second = Server::start(1);
    let filesystem = Arc::clone(&memory) as Arc<dyn Filesystem>;
    let cloned = Arc::new(Connection::resume(clone, negotiated, filesystem).unwrap());
    let (sender, ended) = channel();
    second.handle.add(Arc::clone(&cloned), move |end| sender.send(end).unwrap()).unwrap();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
    assert!(cloned.requests() > 0);
    mount.unmount();
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Ended::Unmounted));
}

#[test]
fn one_loop_serves_several_mounts_and_outlives_each() {
    let (Some(one), Some(two)) = (Mount::new(), Mount::new()) else { return };
    let server = Server::start(1);
    let memory = |text: &str| Arc::new(Memory::new(vec![("name", Memory::file(text))]));
    let (_first, first_ended) = server.serve(&one, &memory("first"), Config::default());
    let (_second, _) = server.serve(&two, &memory("second"), Config::default());
    assert_eq!(fs::read(one.path("name")).unwrap(), b"first");
    assert_eq!(fs::read(two.path("name")).unwrap(), b"second");
    one.unmount();
    first_ended.recv_timeout(PATIENCE).unwrap();
    assert!(fs::metadata(two.path("other")).is_err());
    assert_eq!(server.handle.connections(), 1);
}

#[test]
fn the_kernel_reads_backed_files_itself() {
    let Some(mount) = Mount::new() else { return };
    let mut backing = tempfile::tempfile_in(".").unwrap();
    let content = vec![7; 100_000];
    backing.write_all(&content).unwrap();
    let memory = Arc::new(Memory::new(vec![("file", Node::File(Content::Backed(backing)))]));
    let server = Server::start(1);
    let config = Config { passthrough: Some(2), ..Config::default() };
    let (connection, _) = server.serve(&mount, &memory, config);
    match fs::read(mount.path("file")) {
        Ok(bytes) => assert!(bytes == content),
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            skip::<()>("passthrough needs CAP_SYS_ADMIN in the initial user namespace");
            return;
        }
        Err(_) if !connection.negotiated().unwrap().passthrough() => {
            skip::<()>("no FUSE_PASSTHROUGH before Linux 6.9");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!((count(&memory.counts.open), count(&memory.counts.read)), (1, 0));
}

#[test]
fn a_second_thread_serves_while_the_first_is_busy() {
    let Some(mount) = Mount::new() else { return };
    let busy = Duration::from_millis(500);
    let memory = Arc::new(Memory::new(vec![
        ("busy", Node::File(Content::Blocking(busy))),
        ("file", Memory::file("content")),
    ]));
    let server = Server::start(2);
    server.serve(&mount, &memory, Config::default());
    let reader = {
        let path = mount.path("busy");
        thread::spawn(move || fs::read(path))
    };
    wait_for("the READ", || count(&memory.counts.read) == 1);
    let start = Instant::now();
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
    for number in 0..100 {
        assert!(fs::metadata(mount.path(&number.to_string())).is_err());
    }
    assert!(start.elapsed() < busy / 2, "{:?}", start.elapsed());
    assert_eq!(reader.join().unwrap().unwrap(), b"x");
}

#[test]
fn a_connection_can_change_hands_under_load() {
    let Some(mount) = Mount::new() else { return };
    let memory = Arc::new(Memory::new(vec![("file", Memory::file("content"))]));
    let filesystem = Arc::clone(&memory) as Arc<dyn Filesystem>;
    let connection = Arc::new(Connection::new(mount.device(), filesystem, Config::default()).unwrap());
    let loops = [Server::start(2), Server::start(1)];
    let (sender, ended) = channel();
    let serve = |server: &Server| {
        let sender = sender.clone();
        server.handle.add(Arc::clone(&connection), move |end| sender.send(end).unwrap()).unwrap()
    };
    let mut token = serve(&loops[0]);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let root = mount.root().to_owned();
            thread::spawn(move || {
                for number in 0..2000 {
                    let missing = fs::metadata(root.join(format!("{client}-{number}"))).unwrap_err();
                    assert_eq!(missing.kind(), ErrorKind::NotFound);
                }
            })
        })
        .collect();
    let mut turn = 0;
    while !clients.iter().all(thread::JoinHandle::is_finished) {
        assert!(loops[turn % 2].handle.remove(token));
        turn += 1;
        token = serve(&loops[turn % 2]);
        thread::sleep(Duration::from_millis(1));
    }
    for client in clients {
        client.join().unwrap();
    }
    assert!(turn > 5, "{turn}");
    assert_eq!(count(&memory.counts.lookup), 8000);
    mount.unmount();
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Ended::Unmounted));
}

#[test]
fn a_bug_in_the_filesystem_fails_one_request_only() {
    let Some(mount) = Mount::new() else { return };
    let memory =
        Arc::new(Memory::new(vec![("bug", Node::File(Content::Panic)), ("file", Memory::file("content"))]));
    let server = Server::start(1);
    server.serve(&mount, &memory, Config::default());
    let mut byte = [0];
    let error = File::open(mount.path("bug")).unwrap().read(&mut byte).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"content");
}

#[test]
fn other_descriptors_are_served_by_the_same_loop() {
    let server = Server::start(2);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (sender, heard) = channel();
    let token = server
        .handle
        .add_descriptor(reader.into(), move |fd| {
            let mut bytes = [0; 16];
            let length = rustix::io::read(fd.as_fd(), &mut bytes).unwrap();
            sender.send(bytes[..length].to_vec()).unwrap();
            if length == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    for _ in 0..3 {
        writer.write_all(b"hello").unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"hello");
    }
    drop(writer);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"", "closed at the other end");
    wait_for("its removal", || !server.handle.remove(token));
}

#[test]
fn a_descriptor_without_a_mount_is_refused() {
    let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else { return };
    let filesystem = Arc::new(Memory::new(vec![]));
    let refused = Connection::new(device.into(), filesystem, Config::default());
    assert_eq!(refused.unwrap_err(), Error::NotMounted);
}
