//! What each error of the crates below tells Python. Plain data: no interpreter is started.

use std::io;
use std::path::PathBuf;

use erofs_image::{Corruption, Error, Feature, Where};

use super::{Class, Failure};

const EUCLEAN: i32 = 117;

type Told = (Class, i32, String, Option<u64>, Option<u64>);

fn told(failure: impl Into<Failure>) -> Told {
    let details = failure.into().0;
    (details.class, details.errno, details.message.clone(), details.nid, details.offset)
}

fn expect(class: Class, errno: i32, message: &str, nid: Option<u64>, offset: Option<u64>) -> Told {
    (class, errno, message.to_owned(), nid, offset)
}

#[test]
fn a_limit_tells_its_numbers_and_how_to_raise_it() {
    let exact = Error::Limit { place: Where::nid(7), name: "directory_bytes", value: 900, limit: 8 };
    let details = Failure::from(exact).0;
    assert_eq!(details.limit, Some(("directory_bytes", 900, 8)));
    let remedy = "limits={'directory_bytes': 900} or --limit directory_bytes=900 allows more";
    assert_eq!(details.remedy.as_deref(), Some(remedy));
    // A count that stopped one above its limit says nothing about how much there is.
    let counted = Error::Limit { place: Where::nid(7), name: "depth", value: 9, limit: 8 };
    let remedy = "limits={'depth': 16} or --limit depth=16 allows more";
    assert_eq!(Failure::from(counted).0.remedy.as_deref(), Some(remedy));
}

#[test]
fn an_error_in_an_extent_names_it() {
    let error = Error::Corrupt { place: Where::extent(36, 8192), what: Corruption::DirectoryTwice };
    let details = Failure::from(error).0;
    assert_eq!((details.nid, details.extent, details.offset), (Some(36), Some(8192), None));
    assert!(details.sentence().ends_with("(nid 36, extent 8192)"), "{}", details.sentence());
}

#[test]
fn a_reader_s_errors_keep_their_place_and_their_kind() {
    let twice = Error::Corrupt { place: Where::at(36, 4096), what: Corruption::DirectoryTwice };
    let limit = Error::Limit { place: Where::nid(7), name: "depth", value: 9, limit: 8 };
    let compressed = Error::Unsupported { place: Where::nid(5), feature: Feature::XattrHeaderOnly };
    let failed = Error::Io { blob: 0, offset: 512, source: io::Error::from_raw_os_error(5) };
    let device = Error::Io { blob: 2, offset: 512, source: io::Error::from_raw_os_error(116) };
    let cases = [
        (
            twice,
            expect(
                Class::Corrupt,
                EUCLEAN,
                "corrupt image: directory is reached a second time",
                Some(36),
                Some(4096),
            ),
        ),
        (limit, expect(Class::Limit, 27, "limit exceeded: depth is 9, at most 8 is allowed", Some(7), None)),
        (
            compressed,
            expect(Class::Unsupported, 95, "unsupported: xattr area of a header alone", Some(5), None),
        ),
        (failed, expect(Class::Os, 5, "Input/output error", None, Some(512))),
        (device, expect(Class::Os, 116, "device 2: Stale file handle", None, Some(512))),
        (
            Error::NotErofs { found: 1 },
            expect(Class::NotAnImage, EUCLEAN, "not an EROFS image: magic is 0x00000001", None, None),
        ),
        (
            Error::Checksum { stored: 1, computed: 2 },
            expect(
                Class::Corrupt,
                EUCLEAN,
                "superblock checksum is 0x00000001, but its bytes give 0x00000002",
                None,
                None,
            ),
        ),
        (Error::NotFound, expect(Class::Os, 2, "No such file or directory", None, None)),
        (Error::NotADirectory { nid: 3 }, expect(Class::Os, 20, "Not a directory", Some(3), None)),
        (Error::IsADirectory { nid: 3 }, expect(Class::Os, 21, "Is a directory", Some(3), None)),
        (Error::WrongType { nid: 3 }, expect(Class::Os, 22, "Invalid argument", Some(3), None)),
        (Error::TooManySymlinks, expect(Class::Os, 40, "Too many levels of symbolic links", None, None)),
        (Error::NameTooLong { length: 300 }, expect(Class::Os, 36, "File name too long", None, None)),
        (
            Error::Devices { given: 0, expected: 2 },
            expect(Class::Devices, 22, "the image has 2 extra devices, but 0 were given", None, None),
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(told(error), expected);
    }
}

#[test]
fn all_corruption_is_euclean_whatever_linux_answers() {
    for what in [Corruption::PastEnd { blob: 0, needed: 1 }, Corruption::NoSuchDevice { found: 9 }] {
        let failure = Failure::from(Error::Corrupt { place: Where::default(), what });
        assert_eq!((failure.0.class, failure.0.errno), (Class::Corrupt, EUCLEAN));
    }
}

#[test]
fn devices_say_what_helps() {
    let remedy = |given, expected| Failure::from(Error::Devices { given, expected }).0.remedy;
    assert!(remedy(0, 1).is_some_and(|text| text.contains("--device")));
    assert!(remedy(2, 1).is_some_and(|text| text.contains("leave out")));
}

#[test]
fn a_builder_s_errors_name_the_path_once() {
    use erofs_build::Error;
    let path = PathBuf::from("tree/a");
    let failed = Error::Io { path: path.clone(), action: "read", source: io::Error::from_raw_os_error(5) };
    let cases = [
        (failed, Class::Os, 5, "can't read: Input/output error"),
        (
            Error::Changed { path: path.clone(), what: "grew" },
            Class::Source,
            116,
            "grew while the image was built",
        ),
        (
            Error::Loop { path: path.clone(), ancestor: "tree".into() },
            Class::Source,
            40,
            "this directory is inside itself, it is also tree",
        ),
        (
            Error::Name { path: path.clone(), reason: "it has a slash" },
            Class::Source,
            22,
            "not a name for a directory entry (it has a slash)",
        ),
        (Error::Duplicate { path: path.clone() }, Class::Source, 17, "two entries have this name"),
        (
            Error::FileType { path: path.clone(), mode: 0o150_000 },
            Class::Unsupported,
            95,
            "file type 0o150000 can't be stored",
        ),
        (
            Error::Xattr { path: path.clone(), name: b"user.x".into(), reason: "is too long" },
            Class::Unsupported,
            95,
            "xattr user.x: is too long",
        ),
        (
            Error::Owner { path: path.clone(), what: "uid", id: -1 },
            Class::Source,
            75,
            "uid -1 is out of range after mapping",
        ),
        (Error::Exists { path: path.clone() }, Class::Os, 17, "exists already"),
        (Error::NotAFile { path: path.clone() }, Class::Os, 17, "exists and is not a regular file"),
        (
            Error::TooLarge { path: path.clone(), what: "size", found: 9, limit: 8 },
            Class::Unsupported,
            27,
            "size 9 is more than EROFS holds (8)",
        ),
        (
            Error::TooSparse { path: path.clone(), data: 4, zeros: 9 },
            Class::Unsupported,
            27,
            "too sparse: 9 bytes of zeros would be stored with 4 bytes of data (--exclude leaves it out)",
        ),
    ];
    for (error, class, errno, message) in cases {
        let details = Failure::from(error).0;
        assert_eq!((details.class, details.errno, details.message.as_str()), (class, errno, message));
        assert_eq!(details.filename.as_deref(), Some(path.as_os_str()));
    }
}

#[test]
fn a_builder_s_errors_without_a_path_are_the_caller_s_or_the_kernel_s() {
    use erofs_build::{Error, Feature, KernelVersion};
    let option = Error::Option { name: "label", reason: "contains a NUL byte".into() };
    let kernel = Error::Kernel { feature: Feature::Fingerprints, target: KernelVersion(5, 10) };
    let classes = [option, kernel, Error::Cancelled].map(|error| {
        let details = Failure::from(error).0;
        assert_eq!(details.filename, None);
        (details.class, details.errno)
    });
    assert_eq!(classes, [(Class::Value, 22), (Class::Unsupported, 95), (Class::Interrupted, 125)]);
}

#[test]
fn an_error_of_no_system_call_gets_a_number() {
    let ended = told(io::Error::from(io::ErrorKind::UnexpectedEof));
    assert_eq!((ended.0, ended.1), (Class::Os, 5));
    assert_eq!(told(io::Error::from(io::ErrorKind::BrokenPipe)).1, 32);
}

#[test]
fn a_first_path_is_not_replaced_by_a_wider_one() {
    let failure = Failure::new(Class::Os, 2, "x").at_path("inner").at_path("outer");
    assert_eq!(failure.0.filename.as_deref(), Some("inner".as_ref()));
}

#[test]
fn where_the_package_is_missing_the_sentence_has_the_place() {
    let mut failure = Failure::new(Class::Corrupt, EUCLEAN, "bad").remedy("build it again");
    failure.0.nid = Some(36);
    failure.0.offset = Some(8);
    assert_eq!(failure.0.sentence(), "bad (nid 36, offset 8); build it again");
}
