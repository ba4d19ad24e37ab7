//! Directories, paths and walks.

mod support;

use std::ops::ControlFlow;

use erofs_format::inode::DataLayout;
use erofs_image::{Corruption, Error, FileType, Image, Inode, Limits, OpenOptions};
use support::{Builder, DIR, LNK, REG, ROOT, compact, dir_block, dots, names, open_with};

fn corruption(error: Error) -> Corruption {
    match error {
        Error::Corrupt { what, .. } => what,
        other => panic!("{other}"),
    }
}

/// A directory of several blocks in inode 64, with `count` files named by number.
fn large_dir(bits: u8, count: u64) -> (Image, Inode, Vec<String>) {
    let mut expected: Vec<String> = (0..count).map(|n| format!("file-{n:04}")).collect();
    expected.extend([".".to_owned(), "..".to_owned(), "!first".to_owned()]);
    expected.sort_unstable();
    let block_size = 1_usize << bits;
    let (mut blocks, mut entries, mut used) = (Vec::new(), Vec::new(), 0);
    for (name, nid) in expected.iter().zip(1000..) {
        if used + 12 + name.len() > block_size {
            let mut block = dir_block(&entries);
            block.resize(block_size, 0);
            blocks.extend(block);
            (entries, used) = (Vec::new(), 0);
        }
        let nid = if name == "." { 64 } else { nid };
        entries.push((name.as_str(), nid, 1));
        used += 12 + name.len();
    }
    blocks.extend(dir_block(&entries));
    let mut builder = Builder::with_root(bits, &[("d", 64, 2)]);
    let start = 16384_u32 >> bits;
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, blocks.len() as u64, start));
    builder.put_block(u64::from(start), &blocks);
    let (image, dir) = builder.open_64();
    (image, dir, expected)
}

#[test]
fn every_entry_of_a_large_directory_is_listed_and_found() {
    for bits in [9, 12] {
        let (image, dir, expected) = large_dir(bits, 700);
        assert_eq!(names(&image, &dir).unwrap(), expected);
        for (name, nid) in expected.iter().zip(1000..) {
            let nid = if name == "." { 64 } else { nid };
            assert_eq!(image.lookup(&dir, name.as_bytes()).unwrap().unwrap().nid, nid, "{name}");
        }
        for name in ["", "!", "file-", "file-0699x", "file-9999", "zzz", "a/b", "file-0001\0"] {
            assert_eq!(image.lookup(&dir, name.as_bytes()).unwrap(), None, "{name}");
        }
        assert_eq!(image.lookup(&dir, &[b'x'; 256]).unwrap_err().errno(), 36);
    }
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let (image, dir, expected) = large_dir(9, 300);
    let (mut found, mut pos) = (Vec::new(), Some(0));
    while let Some(from) = pos.take() {
        let visit = &mut |entry: erofs_image::DirEntry<'_>| {
            found.push(String::from_utf8(entry.name.to_vec()).unwrap());
            pos = Some(entry.next);
            ControlFlow::Break(())
        };
        image.read_dir(&dir, from, visit).unwrap();
    }
    assert_eq!(found, expected);
}

#[test]
fn a_listing_may_start_at_any_byte() {
    let (image, dir, expected) = large_dir(9, 100);
    for pos in 0..dir.size + 600 {
        let mut first = None;
        let visit = &mut |entry: erofs_image::DirEntry<'_>| {
            first = Some(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Break(())
        };
        image.read_dir(&dir, pos, visit).unwrap();
        assert!(first.is_none_or(|name| expected.contains(&name)), "{pos}");
    }
    image.read_dir(&dir, u64::MAX, &mut |_| panic!("nothing is there")).unwrap();
}

#[test]
fn an_omitted_dot_is_shown_last_and_found() {
    let mut builder = Builder::with_root(12, &[("d", 64, 2)]);
    let block = dir_block(&[("..", 0, 2), ("x", 70, 1)]);
    let mut inode = compact(DataLayout::FlatInline, DIR, block.len() as u64, 0);
    inode.i_format = (inode.i_format.get() | 0x10).into();
    builder.put_inode(64, &inode).put(Builder::at(65), &block);
    let (image, dir) = builder.open_64();
    assert_eq!(names(&image, &dir).unwrap(), ["..", "x", "."]);
    assert_eq!(dir.nlink, 1, "bit 4 says nothing about the links of a directory");
    assert_eq!(image.lookup(&dir, b".").unwrap().unwrap().nid, 64);
    let mut after = Vec::new();
    let mut visit = |entry: erofs_image::DirEntry<'_>| {
        after.push((entry.name.to_vec(), entry.next));
        ControlFlow::Continue(())
    };
    image.read_dir(&dir, dir.size, &mut visit).unwrap();
    image.read_dir(&dir, dir.size + 1, &mut visit).unwrap();
    assert_eq!(after, [(b".".to_vec(), dir.size + 1)]);
}

#[test]
fn an_empty_directory_is_empty() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, 0, 0));
    let (image, dir) = builder.open_64();
    assert!(names(&image, &dir).unwrap().is_empty());
    assert_eq!(image.lookup(&dir, b"x").unwrap(), None);
}

/// Lists a directory that holds `block`, in inode 64.
fn list(block: &[u8]) -> Result<Vec<String>, Error> {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::FlatInline, DIR, block.len() as u64, 0));
    builder.put(Builder::at(65), block);
    let (image, dir) = builder.open_64();
    image.lookup(&dir, b"some").ok();
    names(&image, &dir)
}

#[test]
fn rubbish_in_directories_is_refused() {
    let good = dir_block(&dots(64, 0, &[("a", 70, 1), ("b", 71, 1)]));
    assert!(list(&good).is_ok());
    let with_nameoff = |index: usize, value: u16| {
        let mut block = good.clone();
        block[index * 12 + 8..index * 12 + 10].copy_from_slice(&value.to_le_bytes());
        corruption(list(&block).unwrap_err())
    };
    for first in [0, 13, 24, 60, 4092, u16::MAX] {
        let what = with_nameoff(0, first);
        let known = match what {
            Corruption::FirstNameOffset { .. } | Corruption::NameBounds { .. } => true,
            // Two entries, and the first name is made of the others.
            Corruption::NameBytes { .. } => first == 24,
            _ => false,
        };
        assert!(known, "{first}: {what}");
    }
    for (index, value) in [(1, 48), (1, 0), (2, 49), (3, 51), (3, 4096), (3, u16::MAX)] {
        let what = with_nameoff(index, value);
        assert!(matches!(what, Corruption::NameBounds { .. }), "{index} {value}: {what}");
    }
    let bad = |entries: &[(&str, u64, u8)]| corruption(list(&dir_block(entries)).unwrap_err());
    assert!(matches!(bad(&[("a/b", 1, 1)]), Corruption::NameBytes { .. }));
    assert!(matches!(bad(&[("a\0b", 1, 1), ("c", 1, 1)]), Corruption::NameBytes { .. }));
    assert!(matches!(bad(&[("b", 1, 1), ("a", 1, 1)]), Corruption::Unsorted { .. }));
    assert!(matches!(bad(&[("a", 1, 1), ("a", 2, 1)]), Corruption::Unsorted { .. }));
    assert_eq!(bad(&[(".", 7, 2)]), Corruption::WrongDot { found: 7 });
    let long = "x".repeat(256);
    assert!(matches!(bad(&[(&long, 1, 1)]), Corruption::NameBounds { .. }));
    assert!(matches!(bad(&[(&long, 1, 1), ("y", 1, 1)]), Corruption::NameBounds { .. }));
}

#[test]
fn order_holds_across_blocks_and_calls() {
    let mut builder = Builder::with_root(12, &[]);
    let mut blocks = dir_block(&dots(64, 0, &[("m", 70, 1)]));
    blocks.resize(4096, 0);
    blocks.extend(dir_block(&[("a", 71, 1)]));
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, blocks.len() as u64, 3)).put_block(3, &blocks);
    let (image, dir) = builder.open_64();
    for pos in [0, 4096] {
        let error = image.read_dir(&dir, pos, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.nid(), Some(64));
        assert!(matches!(corruption(error), Corruption::Unsorted { .. }));
    }
}

#[test]
fn types_that_are_not_defined_are_not_known() {
    let image = Builder::with_root(12, &[("x", 64, 0), ("y", 64, 9), ("z", 64, 7)]).open().unwrap();
    let root = image.inode(ROOT).unwrap();
    let file_type = |name: &[u8]| image.lookup(&root, name).unwrap().unwrap().file_type;
    assert_eq!(file_type(b"x"), None);
    assert_eq!(file_type(b"y"), None);
    assert_eq!(file_type(b"z"), Some(FileType::Symlink));
}

/// A tree with links: `/d/f` (72), `/abs` -> `/d/f`, `/d/up` -> `../d/f`, `/loop` -> `loop`.
fn tree() -> Builder {
    let root = [("abs", 66, 7), ("d", 64, 2), ("loop", 70, 7), ("out", 68, 7)];
    let mut builder = Builder::with_root(12, &root);
    builder.inline_dir(80, ROOT, &[("f", 72, 1), ("up", 74, 7)]);
    let block = dir_block(&dots(64, ROOT, &[("f", 72, 1), ("up", 74, 7)]));
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, block.len() as u64, 3)).put_block(3, &block);
    builder.put_inode(72, &compact(DataLayout::FlatPlain, REG, 0, 0));
    for (nid, target) in [(66, "/d/f"), (74, "../d/f"), (70, "loop"), (68, "../../../d")] {
        builder.put_inode(nid, &compact(DataLayout::FlatInline, LNK, target.len() as u64, 0));
        builder.put(Builder::at(nid + 1), target.as_bytes());
    }
    builder
}

#[test]
fn paths_lead_through_links_but_never_out() {
    let image = tree().open().unwrap();
    let nid = |path: &str, follow| image.resolve(path.as_bytes(), follow).map(|inode| inode.nid);
    for path in ["/d/f", "d/f", "abs", "//d//./f", "d/../d/f", "../../d/f", "d/up", "out/f", "d/up"] {
        assert_eq!(nid(path, true).unwrap(), 72, "{path}");
    }
    assert_eq!(nid("", true).unwrap(), ROOT);
    assert_eq!(nid("/", false).unwrap(), ROOT);
    assert_eq!(nid("abs", false).unwrap(), 66);
    assert_eq!(nid("out/", false).unwrap(), 64);
    assert_eq!(nid("out/.", false).unwrap(), 64);
    assert!(matches!(nid("d/f/", true), Err(Error::NotADirectory { nid: 72 })));
    assert!(matches!(nid("d/f/..", true), Err(Error::NotADirectory { nid: 72 })));
    assert!(matches!(nid("d/none", true), Err(Error::NotFound)));
    assert!(matches!(nid("loop", true), Err(Error::TooManySymlinks)));
    assert_eq!(nid("loop", false).unwrap(), 70);
}

#[test]
fn targets_of_links_are_checked() {
    let mut builder = tree();
    for (nid, mode, size) in [(82, LNK, 0), (84, LNK, 4), (86, LNK, 5000), (88, REG, 1)] {
        builder.put_inode(nid, &compact(DataLayout::FlatInline, mode, size, 3));
    }
    let image = builder.open().unwrap();
    let read = |nid| image.read_link(&image.inode(nid).unwrap());
    assert_eq!(read(66).unwrap(), b"/d/f");
    assert_eq!(corruption(read(82).unwrap_err()), Corruption::SymlinkTarget, "empty");
    assert_eq!(corruption(read(84).unwrap_err()), Corruption::SymlinkTarget, "NUL");
    assert!(matches!(read(86), Err(Error::Limit { name: "symlink_length", value: 5000, .. })));
    assert!(matches!(read(88), Err(Error::WrongType { nid: 88 })));
}

#[test]
fn a_walk_visits_each_name_once_in_order() {
    let image = tree().open().unwrap();
    let walk = image.walk(&image.inode(ROOT).unwrap());
    let found: Vec<(String, u64, u64)> = walk
        .map(Result::unwrap)
        .map(|step| (String::from_utf8(step.path).unwrap(), step.depth, step.inode.nid))
        .collect();
    let expected = [
        ("", 0, 0),
        ("abs", 1, 66),
        ("d", 1, 64),
        ("d/f", 2, 72),
        ("d/up", 2, 74),
        ("loop", 1, 70),
        ("out", 1, 68),
    ];
    assert_eq!(found, expected.map(|(path, depth, nid)| (path.to_owned(), depth, nid)));
}

#[test]
fn a_walk_can_pass_over_a_directory() {
    let image = tree().open().unwrap();
    let mut walk = image.walk(&image.inode(ROOT).unwrap());
    let mut found = Vec::new();
    while let Some(step) = walk.next() {
        let step = step.unwrap();
        found.push(String::from_utf8(step.name().to_vec()).unwrap());
        if step.inode.nid == 64 {
            walk.skip_dir();
        }
    }
    assert_eq!(found, ["", "abs", "d", "loop", "out"]);
}

#[test]
fn a_walk_says_which_directory_comes_again_and_ends() {
    let mut builder = Builder::with_root(12, &[("a", 64, 2), ("f", 72, 1)]);
    builder.put_inode(72, &compact(DataLayout::FlatPlain, REG, 0, 0));
    let block = dir_block(&dots(64, ROOT, &[("again", 64, 2), ("bad", 1 << 50, 1), ("top", ROOT, 2)]));
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, block.len() as u64, 3)).put_block(3, &block);
    let image = builder.open().unwrap();
    let steps: Vec<_> = image.walk(&image.inode(ROOT).unwrap()).collect();
    let text: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Ok(step) => String::from_utf8_lossy(&step.path).into_owned(),
            Err(error) => format!("{error}"),
        })
        .collect();
    assert_eq!(text[..2], ["", "a"]);
    assert_eq!(text[2], "a/again: corrupt image: directory is reached a second time (nid 64)");
    assert!(text[3].starts_with("a/bad: corrupt image: blob 0 ends before 32 bytes"), "{}", text[3]);
    assert_eq!(text[4], "a/top: corrupt image: directory is reached a second time (nid 0)");
    assert_eq!(text[5..], ["f"]);
}

#[test]
fn limits_stop_directories_and_walks() {
    let open = |change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        open_with(tree().finish(), OpenOptions { limits, ..OpenOptions::default() }).unwrap()
    };
    let failure = |image: &Image| {
        let walk = image.walk(&image.inode(ROOT).unwrap());
        walk.filter_map(Result::err).map(|failed| failed.error).next().unwrap()
    };
    let error = failure(&open(&|limits| limits.depth = 1));
    assert!(matches!(error, Error::Limit { name: "depth", value: 2, limit: 1, .. }), "{error}");
    let error = failure(&open(&|limits| limits.walk_entries = 3));
    assert!(matches!(error, Error::Limit { name: "walk_entries", value: 4, limit: 3, .. }), "{error}");
    let error = failure(&open(&|limits| limits.directory_bytes = 60));
    assert!(matches!(error, Error::Limit { name: "directory_bytes", .. }), "{error}");
    assert_eq!(error.errno(), 27);
}

#[test]
fn only_directories_have_entries() {
    let image = tree().open().unwrap();
    let file = image.inode(72).unwrap();
    assert_eq!(image.lookup(&file, b"x").unwrap_err().errno(), 20);
    assert_eq!(names(&image, &file).unwrap_err().errno(), 20);
}
