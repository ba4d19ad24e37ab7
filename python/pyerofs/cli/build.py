"""``pyerofs build``: an image from directories, archives and other images."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..compression import PRESETS
from .options import ANY_PATH, json_option, limit_option, size
from .output import emit_json, human_size, kernel, name_fields, quoted
from .report import ERROR, OK, warn
from .signals import ended_by_signals

if TYPE_CHECKING:
    from ..builder import BuildReport


def id_map(text: str) -> tuple[int, int, int]:
    """Read a range of owners that change: FROM:TO or FROM:TO:COUNT."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() for part in parts):
        raise click.BadParameter(f"{text!r} is not FROM:TO or FROM:TO:COUNT")
    numbers = [int(part) for part in parts]
    if max(numbers) > 0xFFFFFFFF:
        raise click.BadParameter(f"{text!r} has a number above 2^32 - 1")
    return (numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 1)


def rule(text: str) -> tuple[str, str]:
    """Read a rule: PATTERN=ALG[,...]; a pattern may have equals signs too."""
    pattern, _, how = text.partition("=")
    # Settings have equals signs, and names of algorithms have none: the last that is followed by a name.
    parts = text.split("=")
    for end in range(1, len(parts)):
        if parts[end].split(",")[0] in _ALGORITHMS:
            pattern, how = "=".join(parts[:end]), "=".join(parts[end:])
    if not pattern or how.split(",")[0] not in _ALGORITHMS:
        raise click.BadParameter(f"{text!r} is not PATTERN=ALG with one of {', '.join(_ALGORITHMS)}")
    return pattern, how


_ALGORITHMS = ("none", "lz4", "lz4hc", "zstd", "deflate", "lzma")
_ID = click.IntRange(0, 0xFFFFFFFF)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="SRC... IMAGE", type=click.Path())
@click.option(
    "-o", "--output", metavar="IMAGE", type=click.Path(), help="The image, where it isn't the last argument."
)
@click.option("-f", "--force", is_flag=True, help="Replace an image that exists.")
@click.option("-b", "--block-size", type=size, default="4096", show_default=True, help="512 to 65536 bytes.")
@click.option("-L", "--label", default="", help="Volume label, at most 16 bytes.")
@click.option(
    "-U", "--uuid", metavar="UUID|clear|random", help="The UUID.  [default: a digest of the content]"
)
@click.option("-T", "--time", type=int, metavar="SECONDS", help="The time of everything, since 1970.")
@click.option("--all-root", is_flag=True, help="Everything belongs to 0:0.")
@click.option("--uid-map", type=id_map, multiple=True, metavar="FROM:TO[:COUNT]", help="Owners that change.")
@click.option("--gid-map", type=id_map, multiple=True, metavar="FROM:TO[:COUNT]", help="Groups that change.")
@click.option("--uid-offset", type=int, default=0, help="Added to every owner.")
@click.option("--gid-offset", type=int, default=0, help="Added to every group.")
@click.option("--force-uid", type=_ID, help="The owner of everything.")
@click.option("--force-gid", type=_ID, help="The group of everything.")
@click.option(
    "--xattrs",
    multiple=True,
    metavar="all|none|PATTERN",
    help="Extended attributes to store, by full name with * and ?; may be repeated."
    "  [default: user.*, security.capability and ACLs]",
)
@click.option(
    "-x",
    "share_xattrs",
    type=int,
    default=2,
    metavar="N",
    help="Store an attribute once that more than N inodes have; below 0 store none.  [default: 2]",
)
@click.option("--xattr-prefix", "xattr_prefixes", multiple=True, help="A name prefix to store once.")
@click.option(
    "--fingerprint/--no-fingerprint",
    default=None,
    help="Store a digest of each file's content, or not.  [default: yes]",
)
@click.option("--fingerprint-name", metavar="NAME", help="The attribute that holds the digest.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="A set of options; single ones go before it. fast: lz4, quick to build and to read. balanced: zstd. "
    "small: lzma in large clusters. dax: plain, for direct access. core: what every reader of EROFS knows.",
)
@click.option(
    "-z",
    "--compress",
    metavar="ALG[,level=N]",
    help="Compress with lz4, lz4hc, zstd, deflate or lzma.  [default: none]",
)
@click.option(
    "-C", "--cluster", type=size, metavar="SIZE", help="Bytes of a cluster, at most 1M.  [default: 64k]"
)
@click.option(
    "--fragments/--no-fragments",
    default=None,
    help="Compress the ends of files, and small files, together, or not.  [default: if the target can]",
)
@click.option("--all-fragments", is_flag=True, help="Compress files of up to 8 MiB together as a whole.")
@click.option(
    "--tail-packing/--no-tail-packing", default=None, help="Keep small last clusters beside inodes instead."
)
@click.option(
    "--metabox",
    type=size,
    metavar="SIZE",
    help="Compress inodes too, in clusters of SIZE bytes, e.g. 16k; for Linux 6.17 and newer.",
)
@click.option(
    "--rule",
    "rules",
    type=rule,
    multiple=True,
    metavar="PATTERN=ALG[,level=N][,cluster=SIZE]",
    help="Compress some files otherwise, or not (none); gitignore syntax, the last that matches counts.",
)
@click.option(
    "--dedupe/--no-dedupe",
    default=None,
    help="Store equal contents once: files, and parts of large ones.  [default: if there are fragments]",
)
@click.option(
    "--order",
    metavar="path|similar|FILE",
    help="Store contents in order of path, with files of the same name together, or what FILE lists first.  "
    "[default: similar with fragments, else path]",
)
@click.option(
    "--align",
    type=size,
    metavar="SIZE",
    help="Start files of at least SIZE at multiples of it, e.g. 2M for DAX.",
)
@click.option(
    "--chunk", type=size, metavar="SIZE", help="Store files in chunks, each once; plain, at most 8M."
)
@click.option("--blob", type=click.Path(), metavar="FILE", help="A new file that gets the chunks.")
@click.option(
    "--reuse",
    type=click.Path(),
    multiple=True,
    metavar="BLOB",
    help="A blob of an earlier build, whose chunks are not stored again; may be repeated.",
)
@click.option(
    "--base",
    type=click.Path(),
    metavar="OLD",
    help="An earlier image of SRC: what did not change is not compressed again. The result is the same.",
)
@click.option(
    "--target-kernel",
    metavar="VERSION",
    help="The oldest Linux that has to mount the image.  [default: the oldest longterm kernel that reads the "
    "algorithm and fingerprints]",
)
@click.option("--explain", is_flag=True, help="Say which feature costs which kernel, and how to do without.")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Leave out, in gitignore syntax from SRC on."
)
@click.option(
    "--exclude-from", type=click.File(), multiple=True, metavar="FILE", help="A file of such patterns."
)
@click.option(
    "--exclude-regex", multiple=True, metavar="REGEX", help="Leave out what it is found in the path of."
)
@click.option("--hard-dereference", is_flag=True, help="Give each name of a hard link its own inode.")
@click.option(
    "--file-contexts", type=click.Path(), metavar="FILE", help="SELinux labels, as libselinux reads them."
)
@click.option(
    "--holes/--no-holes",
    default=None,
    help="Keep the holes of sparse files, or store zeros.  [default: keep]",
)
@click.option(
    "--whiteouts",
    type=click.Choice(["apply", "overlay", "plain"]),
    help="What layers of container images delete from those below: let them (apply), and keep their marks in "
    "overlayfs' form (overlay), or take the marks for files.  [default: apply if there are several SRC]",
)
@click.option(
    "--manifest",
    type=click.Choice(["composefs-dump", "mtree"]),
    help="Each SRC is a list of files in this format.",
)
@click.option(
    "--contents", type=click.Path(file_okay=False), metavar="DIR", help="Where files of a manifest are."
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="FILE",
    type=ANY_PATH,
    help="A further blob of SRC, if that is an image, in the order of its device table; may be repeated. "
    "Several SRC take theirs one after the other.",
)
@limit_option
@click.option(
    "--inline-tail", type=size, metavar="BYTES", help="Longest tail of a file to keep beside its inode."
)
@click.option(
    "--keep-going", is_flag=True, help="Leave out what can't be read or changes meanwhile, and exit with 1."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads that read and hash.  [default: one per CPU]"
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about the image.")
@json_option
def command(
    names: tuple[str, ...],
    output: str | None,
    quiet: bool,
    verbose: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Build an image of SRC: a directory, a tar archive, compressed or not, or another image.

    Several SRC are merged, later ones over earlier ones; "-" is standard input.

    IMAGE appears whole or not at all; "-" writes it to standard output. The same tree gives the same bytes
    everywhere: no clock is read, and SOURCE_DATE_EPOCH sets the build time.
    """
    from ..builder import build

    names, image = _sources_and_image(names, output)
    src = _opened(names, options.pop("manifest"), options.pop("contents"))
    devices, limits = options.pop("devices"), options.pop("limits")
    to_stream = image == "-"
    if to_stream and sys.stdout.isatty():
        raise click.UsageError("an image is not written to a terminal")
    progress = None
    if not quiet and sys.stderr.isatty():
        from .progress import BuildBar

        progress = BuildBar()
    try:
        with ended_by_signals(), ExitStack() as images:
            report = build(
                _images_opened(src, devices, limits, images) if devices or limits else src,
                _standard_output() if to_stream else image,
                progress=progress,
                **_keywords(dict(options)),
            )
    except KeyboardInterrupt as error:
        error.args = (f"{image}: interrupted",)
        raise
    finally:
        if progress is not None:
            progress.close()
    for path, reason in report.skipped:
        warn(f"{path}: {reason}; left out")
    if report.base_unused is not None:
        warn(f"{options['base']}: nothing can be taken from it: {report.base_unused}")
    out = sys.stderr if to_stream else None
    if as_json:
        emit_json({**name_fields(image, "image"), **_fields(report)}, out)
    elif not quiet:
        if report.unknown_paths:
            count = report.unknown_paths
            what = "1 path of it names" if count == 1 else f"{count} paths of it name"
            click.echo(f"{options['order']}: {what} nothing", err=True)
        lines = _lines(image, report, verbose) + (_explained(report) if explain else [])
        (out or sys.stdout).write("".join(f"{line}\n" for line in lines))
    return ERROR if report.skipped else OK


class _Descriptor:
    """A descriptor to write to, without a buffer of which a rest would be left when a signal ends a write."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, data: bytes) -> int:
        """Write some of the bytes and say how many."""
        return os.write(self._number, data)


def _standard_output() -> Any:
    try:
        return _Descriptor(sys.stdout.fileno())
    except UnsupportedOperation:  # somebody else catches what is printed
        return sys.stdout.buffer


def _sources_and_image(names: tuple[str, ...], output: str | None) -> tuple[tuple[str, ...], str]:
    if output is None:
        if len(names) < 2:
            raise click.UsageError("give SRC and IMAGE, or SRC with -o IMAGE")
        return names[:-1], names[-1]
    return names, output


def _opened(names: tuple[str, ...], manifest: str | None, contents: str | None) -> list[Any]:
    """Turn what the command line calls sources into those of pyerofs.build()."""
    from .. import sources

    if contents is not None and manifest is None:
        raise click.UsageError("--contents goes with --manifest")
    if names.count("-") > 1:
        raise click.UsageError("standard input can't be read twice")
    if "-" in names and sys.stdin.isatty():
        raise click.UsageError("a source is not read from a terminal")
    if manifest is None:
        return [sys.stdin.fileno() if name == "-" else name for name in names]
    parse = {"composefs-dump": sources.composefs_dump, "mtree": sources.mtree}[manifest]
    return [parse(sys.stdin.buffer if name == "-" else name, contents=contents) for name in names]


def _images_opened(
    sources: list[Any], devices: tuple[str, ...], limits: dict[str, int], images: ExitStack
) -> list[Any]:
    """Open those of the sources that are images, each with as many of the devices as its table has."""
    from ..errors import NotAnImage
    from ..image import open as open_image

    left = list(devices)
    found: list[Any] = []
    for source in sources:
        # Nothing else is opened here: of a pipe, bytes would be lost.
        if isinstance(source, str) and (Path(source).is_file() or Path(source).is_block_device()):
            with suppress(NotAnImage):
                with open_image(source, limits=limits) as image:
                    count = len(image.devices)
                own, left = left[:count], left[count:]
                source = images.enter_context(open_image(source, own, limits=limits))
        found.append(source)
    if left:
        raise click.UsageError(f"{left[0]} is a device of no SRC: none is an image that has so many")
    return found


def _keywords(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the command line's values into the keywords of pyerofs.build()."""
    share = options.pop("share_xattrs")
    options["share_xattrs_above"] = max(share, 0)
    patterns = options.pop("xattrs")
    options["xattrs"] = "none" if share < 0 else (patterns or None)
    name = options.pop("fingerprint_name")
    if options["fingerprint"] is not False and name is not None:
        options["fingerprint"] = name
    lines = [line for file in options.pop("exclude_from") for line in _lines_of(file)]
    options["exclude"] = [*lines, *options["exclude"]]
    if options.pop("all_fragments"):
        if options["fragments"] is False:
            raise click.UsageError("--all-fragments needs fragments")
        options["fragments"] = "all"
    options["uuid"] = _uuid(options["uuid"])
    options["order"] = _order(options["order"])
    return options


def _lines_of(file: TextIO) -> list[str]:
    try:
        return [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file.name} is not text: {error}", param_hint="'--exclude-from'") from None


def _order(given: str | None) -> str | list[str] | None:
    """Read the paths of a list, one a line; the two words are orders themselves."""
    if given is None or given in ("path", "similar"):
        return given
    lines = Path(given).read_bytes().split(b"\n")
    return [os.fsdecode(line) for line in lines if line]


def _uuid(text: str | None) -> Any:
    from uuid import UUID, uuid4

    if text is None:
        return None
    try:
        return {"clear": UUID(int=0), "random": uuid4()}.get(text) or UUID(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no UUID, clear or random", param_hint="'--uuid'") from None


def _lines(image: str, report: BuildReport, verbose: bool) -> list[str]:
    name = "standard output" if image == "-" else quoted(image)
    reasons = [feature.name for feature in report.features if feature.first_kernel == report.oldest_kernel]
    because = f" ({', '.join(reasons)})" if reasons else ""
    length, oldest = human_size(report.bytes), kernel(report.oldest_kernel)
    lines = [f"{name}: {report.inodes} inodes, {length}, mounts on Linux {oldest} and newer{because}"]
    if verbose:
        stored = f"{human_size(report.stored_bytes)} ({report.ratio:.1%})"
        metadata = human_size(report.metadata_bytes)
        lines += [
            f"  {report.directories} directories, {report.files} files, {report.hard_links} more links",
            f"  contents {human_size(report.content_bytes)}, stored in {stored}, metadata {metadata}",
            *(
                [f"  {human_size(report.shared_bytes)} of contents stored elsewhere already"]
                * bool(report.shared_bytes)
            ),
            f"  {report.fingerprints} fingerprints, UUID {report.uuid}",
        ]
    if report.taken_bytes:
        lines.append(f"  {human_size(report.taken_bytes)} of clusters taken from the base")
    if report.excluded and verbose:
        lines.append(f"  {report.excluded} entries excluded")
    if report.skipped:
        lines.append(f"  {len(report.skipped)} entries left out that could not be read")
    if report.xattrs_left_out and verbose:
        lines.append(f"  {report.xattrs_left_out} extended attributes left out")
    return lines


def _explained(report: BuildReport) -> list[str]:
    """Say which feature needs which kernel, the newest first."""
    lines = [f"  made for Linux {kernel(report.target_kernel)}; what older kernels don't read:"]
    rows = sorted(report.features, key=lambda feature: feature.first_kernel, reverse=True)
    lines += [
        f"  Linux {kernel(feature.first_kernel):<5} {feature.name} (to do without: {feature.remedy})"
        for feature in rows
    ]
    return lines if rows else [f"  made for Linux {kernel(report.target_kernel)}; every kernel reads it"]


def _fields(report: BuildReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(report),
        "ratio": report.ratio,
        "skipped": [{**name_fields(path, "path"), "reason": reason} for path, reason in report.skipped],
        "uuid": str(report.uuid),
        "target_kernel": kernel(report.target_kernel),
        "oldest_kernel": kernel(report.oldest_kernel),
        "features": [
            {
                "name": feature.name,
                "first_kernel": kernel(feature.first_kernel),
                "remedy": feature.remedy,
            }
            for feature in report.features
        ],
    }
