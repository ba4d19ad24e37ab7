//! The server process and what mounters say to it.
#![forbid(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use common::images::build_image;
use common::{Server, can_mount, scratch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn a_bad_message_is_answered_and_the_next_one_works() {
    let place = scratch();
    let bad = place.path().join("bad");
    fs::write(&bad, vec![0; 8192]).unwrap();
    let server = Server::alone();
    let file = File::open(&bad).unwrap();
    let image = json!({"path": bad, "offset": 0, "devices": 0});
    for (message, fds, kind) in [
        (json!({"v": 1, "op": "dance"}), vec![], "usage"),
        (json!({"v": 9, "op": "status"}), vec![], "usage"),
        (json!({"v": 1, "op": "check", "image": image}), vec![], "usage"),
        (json!({"v": 1, "op": "check", "image": image}), vec![file.as_fd()], "corrupt"),
        (json!({"v": 1, "op": "check", "image": {"path": bad, "devices": 3}}), vec![file.as_fd()], "usage"),
        (
            json!({"v": 1, "op": "mount", "id": "x", "kind": "fuse", "image": image}),
            vec![file.as_fd()],
            "usage",
        ),
    ] {
        let answer = server.ask(&message, &fds);
        assert_eq!(answer["ok"], false, "{message}");
        assert_eq!(answer["error"]["kind"], kind, "{message}: {answer}");
        assert!(answer["error"]["errno"].as_i64().unwrap() > 0);
    }
    let status = server.ask(&json!({"v": 1, "op": "status"}), &[]);
    assert_eq!(status["ok"], true);
    assert_eq!(status["pid"], server.process.id());
    assert_eq!(status["mounts"], json!([]));
}

#[test]
fn one_server_serves_many_mounts_and_ends_with_the_last() {
    if !can_mount() {
        return;
    }
    let place = scratch();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), b"content").unwrap();
    let image = place.path().join("image");
    build_image(&source, &image);
    let mut server = Server::alone();
    let trees: Vec<_> = (0..20).map(|_| server.fuse(&image)).collect();
    for tree in &trees {
        assert_eq!(fs::read(tree.path("file")).unwrap(), b"content");
    }
    let status = server.ask(&json!({"v": 1, "op": "status"}), &[]);
    assert_eq!(status["mounts"].as_array().unwrap().len(), 20);
    assert!(status["mounts"][0]["requests"].as_u64().unwrap() > 0);
    drop(trees);
    assert!(server.wait(Duration::from_millis(1500)).is_none(), "a mounter is still connected");
    server.disconnect();
    let status = server.wait(Duration::from_secs(5)).expect("the server stayed");
    assert!(status.success());
}

#[test]
fn a_signal_ends_the_server_in_order() {
    let mut server = Server::alone();
    assert_eq!(server.ask(&json!({"v": 1, "op": "status"}), &[])["ok"], true);
    kill_process(Pid::from_child(&server.process), Signal::TERM).unwrap();
    assert!(server.wait(Duration::from_secs(5)).expect("the server stayed").success());
}
