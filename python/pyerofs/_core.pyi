"""Types of the compiled module. Names are bytes here; the package above decodes them."""

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeAlias, TypedDict, TypeVar, final, type_check_only

from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "Diff",
    "Domain",
    "File",
    "Image",
    "Inode",
    "ReadMany",
    "Scan",
    "__version__",
    "after_fork",
    "build",
    "clone_mount",
    "extract",
    "fsconfig_create",
    "fsconfig_fd",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "has_sys_admin",
    "image_key",
    "keeper_main",
    "limits",
    "make_private",
    "mount_setattr",
    "move_mount",
    "server_main",
    "setns",
    "stop_reading",
    "unmount",
    "unshare",
]

__version__: str

@type_check_only
class SeekableFile(Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...

@type_check_only
class RangeReader(Protocol):
    def read_at(self, offset: int, length: int, /) -> ReadableBuffer: ...

@type_check_only
class BinaryWriter(Protocol):
    def write(self, data: bytes, /) -> int | None: ...

@type_check_only
class Facts(TypedDict):
    """The superblock."""

    block_size: int
    blocks: int
    inodes: int
    root_nid: int
    uuid: bytes
    label: bytes
    build_time: int
    checksum: int | None
    compressed: bool
    features: list[tuple[str, str, int, tuple[int, int] | None]]
    algorithms: list[tuple[str, int | None, tuple[int, int]]]
    packed_nid: int | None
    metabox_nid: int | None
    build_record: str | None
    devices: list[tuple[bytes, int, int]]

@type_check_only
class Built(TypedDict):
    """The report of a build."""

    inodes: int
    directories: int
    files: int
    hard_links: int
    bytes: int
    metadata_bytes: int
    content_bytes: int
    stored_bytes: int
    shared_bytes: int
    taken_bytes: int
    base_unused: str | None
    unknown_paths: int
    fingerprints: int
    excluded: int
    skipped: list[tuple[str, str]]
    xattrs_left_out: int
    uuid: bytes
    build_time: int
    target_kernel: tuple[int, int]
    oldest_kernel: tuple[int, int]
    features: list[tuple[str, tuple[int, int], str]]

def limits() -> dict[str, int]:
    """Return the limits by name, with their defaults."""

@type_check_only
class Extracted(TypedDict):
    """The report of an extraction; a loss is (what, reason, count, example)."""

    directories: int
    files: int
    symlinks: int
    special: int
    hard_links: int
    bytes: int
    left_out: int
    failed: int
    losses: list[tuple[str, str, int, bytes]]

@final
class Inode:
    """What an inode says, as it is stored."""

    @property
    def nid(self) -> int:
        """Its number in the image."""

    @property
    def number(self) -> int:
        """Its number as Linux shows it in ``st_ino``: the nid, unless the image has a metabox."""

    @property
    def mode(self) -> int:
        """File type and permissions."""

    @property
    def size(self) -> int:
        """Bytes of data."""

    @property
    def nlink(self) -> int:
        """Links, as the image claims."""

    @property
    def uid(self) -> int:
        """Owner."""

    @property
    def gid(self) -> int:
        """Group."""

    @property
    def mtime(self) -> int:
        """Modification time in seconds since 1970."""

    @property
    def mtime_nsec(self) -> int:
        """Its nanoseconds."""

    @property
    def rdev(self) -> int:
        """Device number of a device node, else 0."""

    @property
    def sectors(self) -> int:
        """Space that the data takes, in units of 512 bytes."""

    @property
    def layout(self) -> str:
        """How the data lies, by the kernel's name in lower case."""

    def stat(self, block_size: int) -> tuple[int | float, ...]:
        """Return the fields of ``os.stat_result`` in its own order on Linux."""

@final
class File:
    """A regular file. It keeps the blobs open."""

    def read(self, offset: int, length: int) -> bytes:
        """Return at most ``length`` bytes from ``offset``; less only at the end or before an error."""

    def read_all(self, offset: int) -> bytes:
        """Return everything from ``offset``, if ``memory_bytes`` allows that."""

    def read_into(self, offset: int, buffer: WriteableBuffer) -> int:
        """Fill a buffer from ``offset`` and return how much; less than it holds only at the end."""

@final
class Scan:
    """A walk through everything below a directory."""

    def next(self) -> list[tuple[str, Inode | BaseException]]:
        """Return the next entries, with what is wrong in place of an inode that can't be read."""

_Asked = TypeVar("_Asked")

@final
class ReadMany(Generic[_Asked]):
    """The iterator of ``Image.read_many``."""

    def __new__(
        cls,
        image: Image,
        paths: Iterable[_Asked],
        threads: int | None,
        budget: int,
        entry: type,
        owner: object,
    ) -> Self: ...
    def __iter__(self) -> Self:
        """Implement iter(self)."""

    def __next__(self) -> tuple[_Asked, bytes | OSError]:
        """Implement next(self)."""

    def __enter__(self) -> Self:
        """Return the iterator."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""

    def close(self) -> None:
        """End the iteration; threads that are reading end after what they read now."""

def after_fork() -> None:
    """Must be called in each forked child, before anything else."""

def stop_reading() -> None:
    """End all reading by threads and wait for it; must be called before the interpreter ends."""

_Extent: TypeAlias = tuple[int, int, int | None, int, str, int, str | None, int | None]

@final
class Image:
    """An open image; inodes are named by their nid, paths and names are bytes."""

    def __new__(
        cls,
        source: object,
        devices: list[object],
        offset: int,
        profile: str,
        limits: dict[str, int],
        map: bool,
    ) -> Image: ...
    def close(self) -> None:
        """Let the blobs go."""

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    def memory(self, blob: int) -> tuple[ReadableBuffer | None, int | None, int]:
        """Return an object with a blob's bytes, or a descriptor of the mapped file, and the length."""

    def flat(self, nid: int) -> tuple[int, int] | None:
        """Return (blob, offset) of a file whose bytes lie there as they are, in one piece."""

    def facts(self) -> Facts:
        """Return the superblock."""

    def inode(self, nid: int) -> Inode:
        """Return an inode."""

    def resolve(self, path: bytes, follow: bool) -> Inode:
        """Return the inode that a path leads to."""

    def list(self, nid: int, inodes: bool) -> list[tuple[str, int, Inode | None]]:
        """Return the entries of a directory as (name, nid, inode), without "." and ".."."""

    def scan(self, nid: int, path: bytes) -> Scan:
        """Return a walk through everything below a directory, which has that path."""

    def read_link(self, nid: int) -> bytes:
        """Return the target of a symbolic link."""

    def xattrs(self, nid: int) -> list[list[bytes]]:  # type: ignore[valid-type]
        """Return the extended attributes that Linux would list."""

    def xattr(self, nid: int, name: bytes) -> bytes | None:
        """Return the value of one attribute; hidden ones are found too."""

    def fingerprint(self, nid: int) -> bytes | None:
        """Return the 32 bytes that the image claims as a file's SHA-256."""

    def extents(self, nid: int) -> list[_Extent]:  # type: ignore[valid-type]
        """Return where the data lies, as the fields of ``pyerofs.extent.Extent``."""

    def file(self, nid: int) -> File:
        """Return a handle for reading."""

@final
class Diff:
    """A comparison under way; see ``pyerofs.diff``."""

    def __new__(
        cls,
        a: Image | None,
        path_a: str,
        b: Image | None,
        path_b: str,
        *,
        ignore: list[str],
        whole_seconds: bool,
        usual_xattrs_only: bool | None,
        trust_fingerprints: bool,
        threads: int | None,
        move_limit: int,
    ) -> Diff: ...
    def next(self) -> list[tuple[Any, ...]]:
        """Return the next events; none at the end.

        Each is ("failure", side, path, exception), ("too many",) or (kind, path, old path or None, fields,
        facts of a or None, facts of b or None, both targets or None, (name, way) of each attribute that
        differs).
        """

    def counts(self) -> tuple[int, int, int]:
        """Return the entries of the first tree, of the second one, and the paths of both, so far."""

    def close(self) -> None:
        """End it."""

def build(
    src: list[tuple[str, object, str]],
    image: str | BinaryWriter,
    *,
    block_size: int,
    label: bytes,
    uuid: bytes | None,
    time: int | None,
    source_date_epoch: int | None,
    all_root: bool,
    uid_map: list[tuple[int, int, int]],
    gid_map: list[tuple[int, int, int]],
    uid_offset: int,
    gid_offset: int,
    force_uid: int | None,
    force_gid: int | None,
    xattrs: list[str],
    share_xattrs_above: int,
    xattr_prefixes: list[bytes],
    fingerprint: bool | bytes,
    target_kernel: str | None,
    exclude: list[str],
    exclude_regex: list[str],
    hard_dereference: bool,
    file_contexts: tuple[str, str] | None,
    whiteouts: str,
    holes: bool,
    inline_tail: int | None,
    compress: tuple[str, int | None, int | None] | None,
    fragments: bool | None,
    all_fragments: bool,
    tail_packing: bool,
    metabox: int | None,
    rules: list[tuple[str, tuple[str, int | None, int | None] | None]],
    dedupe: bool | None,
    order: str | list[bytes],
    align: int | None,
    chunk: int | None,
    blob: str | None,
    reuse: list[str],
    base: str | None,
    keep_going: bool,
    threads: int | None,
    force: bool,
    progress: Callable[[str, int, int, int, int, int], object] | None,
) -> Built:
    """Build an image; see ``pyerofs.build``."""

def extract(
    image: Image,
    target: str | None,
    tar: BinaryWriter | int | None,
    *,
    paths: list[bytes],
    include: list[str],
    exclude: list[str],
    owners: bool | None,
    xattrs: bool,
    threads: int | None,
    force: bool,
    progress: Callable[[int, int], object] | None,
    on_error: Callable[[OSError], object],
) -> Extracted:
    """Extract an image; ``pyerofs.extract`` documents the arguments."""

def fsopen(fstype: str) -> int: ...
def fsconfig_flag(context: int, key: str) -> None: ...
def fsconfig_string(context: int, key: str, value: bytes) -> None: ...
def fsconfig_fd(context: int, key: str, value: int) -> None: ...
def fsconfig_create(context: int) -> None: ...
def fsmount(context: int, attributes: int) -> int: ...
def move_mount(mount: int, target: int) -> None: ...
def clone_mount(path: str | PathLike[str]) -> int: ...
def mount_setattr(mount: int, set: int, clear: int) -> None: ...
def make_private(path: str | PathLike[str]) -> None: ...
def unmount(path: str | PathLike[str], lazy: bool) -> None: ...
def unshare(*, user: bool, mount: bool) -> None: ...
def setns(namespace: int) -> None: ...
def has_sys_admin() -> bool: ...
def server_main(config: str) -> None: ...
def keeper_main(config: str) -> None: ...
def image_key(blobs: list[int], offset: int) -> str: ...

@final
class Domain:
    @staticmethod
    def open(path: str | PathLike[str]) -> Domain: ...
    @staticmethod
    def open_or_create(path: str | PathLike[str]) -> tuple[Domain, bool]: ...
    @staticmethod
    def prepare_state_root(root: str | PathLike[str]) -> Path: ...
    @staticmethod
    def remove(path: str | PathLike[str]) -> None: ...
    def directory(self) -> int: ...
    def secret(self) -> str: ...
    def prepare_fresh(self) -> None: ...
    def set_limit(self, bytes: int | None) -> None: ...
    def stat(self, mounted: list[str]) -> str: ...
    def gc(
        self, *, keep_bytes: int | None = None, older_than: int | None = None, dry_run: bool = False
    ) -> str: ...
    def verify(self, *, repair: bool = False) -> str: ...
