"""Images from manifests: what composefs, mtree and libarchive print, and what they don't."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import composefs
import pyerofs
from kept import NotHereError

PROGRAM = [sys.executable, "-m", "pyerofs", "build"]

#: What composefs-info 1.0.8 dumps of odd names, contents and attributes, line by line.
DUMPED = rb"""/ 4194 40755 4 0 0 0 1000000000.50 - - -
/#h 3 100644 1 0 0 0 1795301130.657739279 - xxx -
/- 5 100644 1 0 0 0 -2.500000000 - xxxxx -
/-dir 27 41777 2 0 0 0 0.1 - - - user.d=y trusted.overlay.opaque=y
/\\x41 1 100644 1 0 0 0 0.0 - x -
/a\x20b 0 100644 1 0 0 0 -1.999999999 - - -
/a=b 7 100644 1 0 0 0 0.0 - xxxxxxx - trusted.t=1 user.dash=- user.empty= user.k\x3dv=a\x3db\x00\xff\x20\n user.sp\x20\\=-\x3d
/another 8 100644 3 7 8 0 1695368732.385062094 d5/42 - d54266cdb74628260b44d6c9edc4ff399e5f21359b1d3694586f389d116de157 user.x=y
/blk 0 60600 1 0 0 1227949024 0.0 - - -
/caf\xc3\xa9 3 100644 1 0 0 0 0.0 - xxx -
/d\nir 46 40755 2 0 0 0 0.0 - - -
/d\nir/in\x20side 12 100644 1 0 0 0 0.0 - \x00\x08\t\n\x0b\r!"'-\x7f\xff -
/fifo 0 10644 1 0 0 0 0.0 - - -
/hard\x20link 8 @100644 3 7 8 0 1695368732.385062094 /another - d54266cdb74628260b44d6c9edc4ff399e5f21359b1d3694586f389d116de157 user.x=y
/inline-dash 1 100644 1 0 0 0 0.0 - \x2d -
/max 0 20000 1 0 0 4294967295 0.0 - - -
/sock 0 140644 1 0 0 0 0.0 - - -
/sym 7 120777 1 0 0 0 0.0 t\x20o\n\xff=\\ - -
/sym-dash 1 120777 1 0 0 0 0.0 \x2d - -
/tab\t\r\x01\x7f 6 104755 1 4294967294 65536 0 0.1 - xxxxxx -
/wh 0 20000 1 0 0 0 0.0 - - -
/\xff\xfe 4 100644 1 0 0 0 0.0 - xxxx -
"""  # noqa: E501

#: The same kinds of names as mtree (NetBSD's, 20180822) prints them with -K device.
MTREE = rb"""#	   user: (null)
#	machine: vm

# .
/set type=file uid=0 gid=0 mode=0644 nlink=1 flags=none
.               type=dir mode=0755 nlink=4 time=1000000000.50
    \#h         size=1 time=1795301130.657739279
    -           size=1 time=-2.500000000
    \\x41       size=1 time=0.0
    a\sb        nlink=2 size=1 time=-1.999999999
    a=b         size=1 time=0.0
    back\\slash size=1 time=0.0
    caf\M-C\M-) size=1 time=0.0
    exactly-quote \
                size=1 time=0.0
    blk         type=block mode=0600 device=0x493103e0 \
                time=0.0
    null        type=char device=0x103 time=0.0
    wh          type=char mode=0 device=0 time=0.0
    fifo        type=fifo time=0.0
    sock        type=socket time=0.0
    sym         type=link mode=0777 time=0.0 \
                link=t\so\n\M^?=\\
    tab\t\r\^A\^? \
                uid=4294967294 gid=65536 mode=04755 size=1 time=0.1
    \M^?\M-~    size=1 time=0.0

# ./-dir
-dir            type=dir mode=01777 nlink=2 time=0.0
    in\sside    size=1 time=0.0
# ./-dir
..

..
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.erofs"


@pytest.fixture
def odd_tree(tmp_path: Path) -> bytes:
    """A tree whose names, contents and times are hard to write down."""
    root = os.fsencode(tmp_path / "tree")
    os.makedirs(root + b"/-dir/d=#")
    names = [b"a b", b"back\\slash", b"caf\xc3\xa9", b"\xff\xfe", b"-", b"tab\t\r\x01\x7f", b"a=b", b"@at"]
    names += [b"#h", b"\\x41", b"~", b"-dir/in side", b"tail\\", b"[a]*?", b"-dir/d=#/\xa0\x85"]
    for number, name in enumerate(names):
        Path(os.fsdecode(root + b"/" + name)).write_bytes(bytes(range(256))[: number * 17])
        os.utime(root + b"/" + name, ns=(0, 10**18 + number * 12_345_678))
    Path(os.fsdecode(root + b"/zeros")).write_bytes(bytes(100_000))
    Path(os.fsdecode(root + b"/dash")).write_bytes(b"-")
    os.symlink(b"t o\xff=#\\", root + b"/sym")
    os.symlink(b"-", root + b"/sym-dash")
    os.mkfifo(root + b"/fifo")
    os.chmod(root + b"/~", 0o4751)
    os.chmod(root + b"/-dir", 0o1777)
    if os.geteuid() == 0:
        os.chown(root + b"/@at", 4294967294, 65536)
        os.mknod(root + b"/null", 0o20666, os.makedev(1, 3))
        os.mknod(root + b"/blk", 0o60600, os.makedev(259, 300000))
    os.utime(root + b"/a b", ns=(0, -1))
    os.utime(root + b"/-", ns=(0, -1_500_000_000))
    os.utime(root, ns=(0, 10**18 + 50))
    return root


def files(image: Path) -> dict[str, bytes]:
    """Every regular file of an image."""
    with pyerofs.open(image) as opened:
        found = (entry for entry in opened.root.scan() if entry.is_file() and not entry.is_symlink())
        return {entry.path: entry.read_bytes() for entry in found}


def changes(image: Path, tree: bytes) -> list[str]:
    """How an image differs from a tree."""
    with pyerofs.open(image) as opened:
        return [str(change) for change in pyerofs.diff(opened.root, os.fsdecode(tree))]


def test_a_composefs_dump_is_a_source(tmp_path: Path, target: Path) -> None:
    (tmp_path / "ab").write_bytes(b"object")
    (tmp_path / "dump").write_text(
        "/ 4096 40755 2 0 0 0 1.5 - - -\n"
        "/a\\x20b 6 100644 2 1 2 0 1.0 ab - digest user.k\\x3d=v\\n\n"
        "/inline 3 100600 1 0 0 0 -1.0 - x\\ty -\n"
        "/link 0 @120000 - - - - 0.0 /a\\x20b - -\n"
        "/sym 1 120777 1 0 0 0 0.0 target - -\n"
    )
    pyerofs.build(pyerofs.sources.composefs_dump(tmp_path / "dump", contents=tmp_path), target)
    assert files(target) == {"/a b": b"object", "/inline": b"x\ty", "/link": b"object"}
    with pyerofs.open(target) as image:
        assert (image / "a b").extended_attributes()["user.k="] == b"v\n"
        assert image.root.stat().st_mtime_ns == 1_000_000_005
    with pytest.raises(ValueError, match=r"dump:2.*no directory"):
        list(pyerofs.sources.composefs_dump(tmp_path / "dump"))


def test_an_mtree_manifest_is_a_source(tmp_path: Path, target: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/a b").write_bytes(b"one")
    (tmp_path / "other").write_bytes(b"two")
    (tmp_path / "manifest").write_text(
        "#mtree\n/set type=file uid=3 gid=4 mode=0644\n.  type=dir mode=0755\n"
        "bin type=dir mode=0711 \\\n  time=9.000000001\n    a\\040b sha256=whatever\n..\n"
        "sym type=link link=bin\n/unset uid\n..\n./full contents=other time=5.0\n"
    )
    done = subprocess.run(
        [*PROGRAM, "--manifest", "mtree", tmp_path / "manifest", target], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert files(target) == {"/bin/a b": b"one", "/full": b"two"}
    with pyerofs.open(target) as image:
        stat = (image / "bin").stat()
        assert (stat.st_mode & 0o777, stat.st_uid, stat.st_mtime_ns) == (0o711, 3, 9_000_000_001)
        assert (image / "full").stat().st_uid == 0


def test_a_dump_is_read_as_composefs_info_prints_it(tmp_path: Path, target: Path) -> None:
    (tmp_path / "d5").mkdir()
    (tmp_path / "d5/42").write_bytes(b"anything")
    source = pyerofs.sources.composefs_dump(io.BytesIO(DUMPED), contents=tmp_path)
    pyerofs.build(source, target, xattrs="all")
    found = {os.fsencode(path): content for path, content in files(target).items()}
    assert found == {
        b"/#h": b"xxx",
        b"/-": b"xxxxx",
        b"/\\x41": b"x",
        b"/a b": b"",
        b"/a=b": b"xxxxxxx",
        b"/another": b"anything",
        b"/hard link": b"anything",
        b"/caf\xc3\xa9": b"xxx",
        b"/d\nir/in side": b"\0\x08\t\n\x0b\r!\"'-\x7f\xff",
        b"/inline-dash": b"-",
        b"/tab\t\r\x01\x7f": b"xxxxxx",
        b"/\xff\xfe": b"xxxx",
    }
    with pyerofs.open(target) as image:
        assert (image / "sym").readlink() == os.fsdecode(b"t o\n\xff=\\")
        assert (image / "sym-dash").readlink() == "-"
        assert (image / "a=b").extended_attributes() == {
            "trusted.t": b"1",
            "user.dash": b"-",
            "user.empty": b"",
            "user.k=v": b"a=b\0\xff \n",
            "user.sp \\": b"-=",
        }
        assert image.root.stat().st_mtime_ns == 10**18 + 50
        assert (image / "-").stat().st_mtime_ns == -1_500_000_000
        assert (image / "a b").stat().st_mtime_ns == -1
        assert (image / "another").stat().st_nlink == 2
        devices = {name: (image / name).stat().st_rdev for name in ("blk", "max", "wh")}
        assert devices == {"blk": os.makedev(259, 300000), "max": os.makedev(4095, 1048575), "wh": 0}
        odd = (image / "tab\t\r\x01\x7f").stat()
        assert (odd.st_mode, odd.st_uid, odd.st_gid) == (0o104755, 4294967294, 65536)


@pytest.fixture(scope="module")
def tools() -> composefs.Composefs:
    """The real tools; skips with the reason where they can't be had."""
    try:
        return composefs.find()
    except NotHereError as error:
        pytest.skip(f"no composefs: {error}")


def test_what_composefs_dumps_is_the_tree(
    odd_tree: bytes, tmp_path: Path, target: Path, tools: composefs.Composefs
) -> None:
    image, store = tmp_path / "image", tmp_path / "store"
    tools.run("mkcomposefs", f"--digest-store={store}", os.fsdecode(odd_tree), image)
    dump = tools.run("composefs-info", "dump", image)
    pyerofs.build(pyerofs.sources.composefs_dump(io.BytesIO(dump), contents=store), target, xattrs="all")
    assert changes(target, odd_tree) == [], dump


def test_hard_links_are_links_as_composefs_dumps_them(
    tmp_path: Path, target: Path, tools: composefs.Composefs
) -> None:
    # It makes none of a directory's, but takes them from a dump.
    lines = b"/ 0 40755 1 0 0 0 0.0 - - -\n/a 1 100644 2 0 0 0 0.0 - x -\n/b 0 @100644 - - - - 0.0 /a - -\n"
    (tmp_path / "lines").write_bytes(lines)
    tools.run("mkcomposefs", "--from-file", tmp_path / "lines", tmp_path / "image")
    dump = tools.run("composefs-info", "dump", tmp_path / "image")
    assert b" @100644 " in dump
    pyerofs.build(pyerofs.sources.composefs_dump(io.BytesIO(dump)), target)
    assert files(target) == {"/a": b"x", "/b": b"x"}
    with pyerofs.open(target) as opened:
        assert (opened / "b").stat().st_nlink == 2


def test_a_manifest_is_read_as_mtree_prints_it(tmp_path: Path, target: Path) -> None:
    root = os.fsencode(tmp_path) + b"/"
    os.mkdir(root + b"-dir")
    names = [b"#h", b"-", b"\\x41", b"a b", b"a=b", b"back\\slash", b"caf\xc3\xa9", b"exactly-quote"]
    names += [b"tab\t\r\x01\x7f", b"\xff\xfe", b"-dir/in side"]
    for name in names:
        Path(os.fsdecode(root + name)).write_bytes(b"x")
    pyerofs.build(pyerofs.sources.mtree(io.BytesIO(MTREE), contents=tmp_path), target)
    assert {os.fsencode(path) for path in files(target)} == {b"/" + name for name in names}
    with pyerofs.open(target) as image:
        assert (image / "sym").readlink() == os.fsdecode(b"t o\n\xff=\\")
        devices = {name: (image / name).stat().st_rdev for name in ("blk", "null", "wh")}
        assert devices == {"blk": os.makedev(259, 300000), "null": os.makedev(1, 3), "wh": 0}
        odd = (image / "tab\t\r\x01\x7f").stat()
        assert (odd.st_mode, odd.st_uid, odd.st_gid, odd.st_mtime_ns) == (0o104755, 4294967294, 65536, 1)
        times = [(image / name).stat().st_mtime_ns for name in (".", "-", "a b")]
        assert times == [10**18 + 50, -1_500_000_000, -1]


def test_paths_may_stand_behind_the_keywords(tmp_path: Path, target: Path) -> None:
    (tmp_path / "tr\\").write_bytes(b"x")
    lines = "type=dir mode=0755 flags=none .\ntype=dir mode=0711 ./d\n"
    lines += "type=link link=d/a\\s\\#b ./sym\ntype=file contents=tr\\\\ ./d/tr\\\\\n"
    pyerofs.build(pyerofs.sources.mtree(io.BytesIO(lines.encode()), contents=tmp_path), target)
    with pyerofs.open(target) as image:
        assert sorted(entry.path for entry in image.root.scan()) == ["/d", "/d/tr\\", "/sym"]
        assert (image / "sym").readlink() == "d/a #b"


def test_comments_and_continued_lines_end_where_they_end(target: Path) -> None:
    lines = (
        b"# a comment with a backslash \\\n"
        b"one size=0 # another \\\n"
        b"two \\\n size=0 \\\r\n mode=0600\r\n"
        b"a#b size=0\n"
        b"\n   \n"
        b"last size=0 \\"
    )
    pyerofs.build(pyerofs.sources.mtree(io.BytesIO(lines)), target)
    assert list(files(target)) == ["/a#b", "/last", "/one", "/two"]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("u=rwx,go=rx", 0o755),
        ("=rw", 0o666),
        ("a=r,u+w,o=", 0o640),
        ("u=rwxs,g=xs,o=t", 0o6710),
        ("a=rwx,+t", 0o1777),
        ("u=rw,go=u-w", 0o644),
        ("a=rX", 0o444),
        ("u=x,g+X", 0o110),
        ("u+rw-w", 0o400),
        ("04711", 0o4711),
        ("0", 0),
    ],
)
def test_modes_may_be_symbolic(text: str, mode: int) -> None:
    (entry,) = pyerofs.sources.mtree(io.BytesIO(f"a size=0 mode={text}".encode()))
    assert entry.mode == mode
    (entry,) = pyerofs.sources.mtree(io.BytesIO(b"a type=dir mode=a=rX"))
    assert entry.mode == 0o555


def test_what_must_not_change_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o640)
    os.symlink("./there/", tmp_path / "sym")
    os.utime(tmp_path / "file", ns=(0, 123_456_789_012))
    lines = b"/set uid=9 mode=0777\n./f nochange contents=file\n./sym nochange\n./no nochange optional\n"
    file, link = pyerofs.sources.mtree(io.BytesIO(lines), contents=tmp_path)
    assert (file.mode, file.uid, file.mtime_ns) == (0o640, os.getuid(), 123_456_789_012)
    assert file.content == tmp_path / "file"
    assert (link.type, link.target) == ("symlink", "./there/")


def test_a_file_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"<manifest>:2.*not-there"):
        list(pyerofs.sources.mtree(io.BytesIO(b"\n./not-there mode=0644\n"), contents=tmp_path))
    dump = b"/x 5 100644 1 0 0 0 0.0 not-there - -\n"
    with pytest.raises(FileNotFoundError, match=r"<manifest>:1.*not-there"):
        list(pyerofs.sources.composefs_dump(io.BytesIO(dump), contents=tmp_path))


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("mtree", "a contents=../../etc/shadow\n", "climbs out"),
        ("mtree", "a type=door\n", "unknown"),
        ("mtree", "..\n", "above the root"),
        ("mtree", "a size=0 uid=-1\n", "uid -1"),
        ("mtree", "a\\q size=0\n", "no escape"),
        ("mtree", "a\\M+ size=0\n", "no escape"),
        ("mtree", "a size=0 mode=rwx\n", "'rwx' is neither octal nor"),
        ("mtree", "a size=0 mode=u=rw,g=q\n", "neither octal nor"),
        ("mtree", "a size=0 mode=0758\n", "mode '0758' is no number"),
        ("mtree", "a size=0 mode=100644\n", "mode 33188"),
        ("mtree", "a size=0 uid=1_0\n", "uid '1_0' is no number"),
        ("mtree", "a size=0 time=1.1000000000\n", "1000000000 nanoseconds"),
        ("mtree", "a size=0 time=soon\n", "time 'soon'"),
        ("mtree", "a size=x\n", "size 'x'"),
        ("mtree", "a type=char\n", "type=char without device="),
        ("mtree", "a type=block device=native,1\n", "neither a number nor"),
        ("mtree", "a type=char device=bsdos,1,2,3\n", "neither a number nor"),
        ("mtree", "a type=link\n", "without link="),
        ("mtree", ". contents=.\n", "no regular file"),
        ("mtree", "out.size size=7\n", "has 3 bytes, the size is 7"),
        ("composefs-dump", "/a 9 100644 1 0 0 0 0.0 ../x - -\n", "climbs out"),
        ("composefs-dump", "/a 9 100644 1 0 0 0 0.0 - - -\n", "0 bytes of content"),
        ("composefs-dump", "/a 0 100644 1 0 0 0 0.0 -\n", "9 fields"),
        ("composefs-dump", "a 0 100644 1 0 0 0 0.0 - - -\n", "not absolute"),
        ("composefs-dump", "/a 0 644 1 0 0 0 0.0 - - -\n", "no type"),
        ("composefs-dump", "/a 0x0 100644 1 0 0 0 0.0 - - -\n", "size '0x0' is no number"),
        ("composefs-dump", "/a 0 100644 1 0 0 0 0.1000000000 - - -\n", "1000000000 nanoseconds"),
        ("composefs-dump", "/a 0 100644 1 0 0 0 0. - - -\n", "count of nanoseconds '' is no number"),
        ("composefs-dump", "/a 1 100644 1 0 0 0 0.0 - \\x4 -\n", "no escape"),
        ("composefs-dump", "/a 0 100644 1 0 0 0 0.0 - - - key\n", "no xattr"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_named_by_line(
    form: str, text: str, words: str, tmp_path: Path, target: Path
) -> None:
    (tmp_path / "out.size").write_bytes(b"abc")
    command: list[str | Path] = [*PROGRAM, "--manifest", form, "--contents", tmp_path, "-", target]
    done = subprocess.run(
        command, input="#\n" * (form == "mtree") + text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert re.search(rf"<stdin>:[12]: .*{words}", done.stderr), done.stderr
    assert not target.exists()


def test_what_is_optional_in_a_manifest_may_be_missing(tmp_path: Path, target: Path) -> None:
    (tmp_path / "manifest").write_text("a optional\nb optional contents=manifest\n")
    pyerofs.build(pyerofs.sources.mtree(tmp_path / "manifest"), target)
    assert list(files(target)) == ["/b"]


@pytest.mark.parametrize(
    "command",
    [
        ["bsdtar", "--format=mtree", "-cf", "-", "-C", "TREE", "."],
        ["bsdtar", "--format=mtree", "--options=all", "-cf", "-", "-C", "TREE", "."],
        ["bsdtar", "--format=mtree-classic", "-cf", "-", "-C", "TREE", "."],
        [
            *("bsdtar", "--format=mtree", "-cf", "-", "-C", "TREE"),
            *("--options", "!all,use-set,indent,type,mode,uid,gid,time,link,size,device", "."),
        ],
        ["mtree", "-c", "-K", "device,sha256", "-p", "TREE"],
        ["mtree", "-c", "-k", "type,mode,uid,gid,time,link,device", "-p", "TREE"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_what_other_programs_list_is_the_tree(command: list[str], odd_tree: bytes, target: Path) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    tree = os.fsdecode(odd_tree)
    words = [tree if word == "TREE" else word for word in command]
    listed = subprocess.run(words, check=True, capture_output=True).stdout
    pyerofs.build(pyerofs.sources.mtree(io.BytesIO(listed), contents=tree), target)
    assert changes(target, odd_tree) == [], listed


def test_mtree_itself_puts_paths_first_or_last(odd_tree: bytes, target: Path) -> None:
    if not shutil.which("mtree"):
        pytest.skip("no mtree")
    tree = os.fsdecode(odd_tree)
    # It leaves devices out of these forms.
    for name in ("null", "blk"):
        Path(tree, name).unlink(missing_ok=True)
    os.utime(tree, ns=(0, 0))
    listed = subprocess.run(["mtree", "-c", "-p", tree], check=True, capture_output=True).stdout
    for form in ("-C", "-D"):
        lines = subprocess.run(["mtree", form], input=listed, check=True, capture_output=True).stdout
        pyerofs.build(pyerofs.sources.mtree(io.BytesIO(lines), contents=tree), target, force=True)
        assert changes(target, odd_tree) == [], lines
