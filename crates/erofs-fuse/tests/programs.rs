//! What programs do with a mount, through every back end.
#![forbid(unsafe_code)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::images::{build_image, bytes, set_acl};
use common::{Server, Tree, can_mount, scratch};

/// Calls `check` with an image of `make`'s tree mounted through each back end.
fn through_every_back_end(make: impl Fn(&Path), check: impl Fn(&str, &Tree)) {
    if !can_mount() {
        return;
    }
    let place = scratch();
    let source = place.path().join("source");
    fs::create_dir(&source).unwrap();
    make(&source);
    let image = place.path().join("image");
    build_image(&source, &image);
    let alone = Server::alone();
    check("fuse", &alone.fuse(&image));
    let domain = Server::in_domain(&place.path().join("domain"));
    check("overlay", &domain.overlay(&image));
    check("passthrough", &domain.passthrough(&image));
}

#[test]
fn a_program_in_an_image_runs() {
    let make = |root: &Path| {
        fs::copy("/bin/echo", root.join("echo")).unwrap();
        fs::write(root.join("script"), "#!/bin/sh\necho script $1\n").unwrap();
        fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    through_every_back_end(make, |back_end, tree| {
        for _ in 0..2 {
            let output = Command::new(tree.inherit("echo")).arg("hello").output().unwrap();
            assert_eq!(output.stdout, b"hello\n", "{back_end}");
            let output = Command::new(tree.inherit("script")).arg("too").output().unwrap();
            assert_eq!(output.stdout, b"script too\n", "{back_end}");
        }
    });
}

#[test]
fn modes_and_acls_decide_who_reads() {
    let make = |root: &Path| {
        for (name, mode) in [("public", 0o644), ("private", 0o600), ("listed", 0o600)] {
            fs::write(root.join(name), name).unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        set_acl(&root.join("listed"), 12_345);
    };
    through_every_back_end(make, |back_end, tree| {
        for (uid, name, allowed) in [
            (12_345, "public", true),
            (12_345, "private", false),
            (12_345, "listed", true),
            (12_346, "listed", false),
        ] {
            let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
            let output = Command::new("setpriv")
                .args([&user, &group, "--clear-groups", "cat"])
                .arg(tree.inherit(name))
                .output()
                .unwrap();
            assert_eq!(output.status.success(), allowed, "{back_end}: {uid} {name}: {output:?}");
        }
    });
}

#[test]
fn files_survive_memory_pressure_and_parallel_use() {
    let content = |number: usize| bytes(u32::try_from(number).unwrap(), number * 977 % 200_000);
    let make = |root: &Path| {
        for number in 0..60 {
            fs::write(root.join(number.to_string()), content(number)).unwrap();
        }
    };
    through_every_back_end(make, |back_end, tree| {
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..120 {
                        let number = (round * 7 + thread * 13) % 60;
                        let got = fs::read(tree.path(&number.to_string())).unwrap();
                        assert!(got == content(number), "{back_end}: {number}");
                        if round % 40 == 0 {
                            // Dentries and inodes: every look-up is asked again.
                            fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn odd_names_are_found() {
    let names = ["with space", "-dash", "caf\u{e9}", ".v", ".hidden", "a\nb", &"x".repeat(255)];
    let make = |root: &Path| {
        for name in names {
            fs::write(root.join(name), name).unwrap();
        }
    };
    through_every_back_end(make, |back_end, tree| {
        for name in names {
            assert_eq!(fs::read(tree.path(name)).unwrap(), name.as_bytes(), "{back_end}");
        }
        assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), names.len(), "{back_end}");
    });
}
