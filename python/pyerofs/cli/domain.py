"""``pyerofs domain``: ``ls``, ``stat``, ``gc``, ``rm`` and ``verify``."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from . import report
from .output import emit_json, human_size, quoted, write

if TYPE_CHECKING:
    from ..domain import Domain

    _ParamType = click.ParamType[int]
else:
    _ParamType = click.ParamType  # generic in the newest click only

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class _Quantity(_ParamType):
    """A number with a unit."""

    def __init__(self, name: str, units: dict[str, int]) -> None:
        self.name = name
        self._units = units

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]+)([a-zA-Z]?)", value)
        if match is None or match[2].lower() not in self._units:
            units = ", ".join(filter(None, self._units))
            self.fail(f"{value!r} is not a number with one of {units}", param, ctx)
        return int(match[1]) * self._units[match[2].lower()]


_SIZE = _Quantity("SIZE", _UNITS)
_AGE = _Quantity("AGE", _TIMES)

_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


def _named(name: str) -> Domain:
    from ..domain import Domain

    return Domain(name)


@click.group()
def command() -> None:
    """Look after domains, in which mounts share their page cache."""


@command.command("ls")
@_json
def list_domains(as_json: bool) -> None:
    """List your domains."""
    from ..domain import Domain

    for domain in Domain.all():
        if as_json:
            emit_json({"name": domain.name, "path": str(domain.path)})
        else:
            write(f"{domain.name}\n")


def _or_unknown(size: int | None) -> str:
    return "unknown" if size is None else human_size(size)


@command.command("stat")
@click.argument("name")
@_json
def stat(name: str, as_json: bool) -> None:
    """Show what lies in domain NAME and what sharing saves now."""
    found = _named(name).stat()
    if as_json:
        emit_json({"name": name, **asdict(found)})
        return
    where = f"{found.filesystem}{', which is memory' if found.in_memory else ''}"
    limit = f"{human_size(found.limit)}{'' if found.limit_is_set else ' (a tenth of the free space)'}"
    lines = [
        ("objects", str(found.objects)),
        ("bytes", human_size(found.bytes)),
        ("on disk", f"{human_size(found.disk_bytes)} on {where}"),
        ("limit", limit),
        ("in page cache", _or_unknown(found.resident_bytes)),
        ("saved", human_size(found.saved_bytes)),
        ("saved in page cache", _or_unknown(found.saved_resident_bytes)),
    ]
    for label, value in lines:
        write(f"{label + ':':21}{value}\n")
    for image in found.images:
        write(
            f"image {quoted(image.name)}: {image.mounts} mounts, {image.facts} files verified, "
            f"{human_size(image.bytes)}\n"
        )


@command.command("gc")
@click.argument("name")
@click.option("--keep", "keep_bytes", type=_SIZE, help="Evict until no more than SIZE is on disk.")
@click.option("--older-than", type=_AGE, help="Forget images not mounted for AGE (10d, 12h).")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@_json
def gc(name: str, keep_bytes: int | None, older_than: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove from domain NAME what nobody can use. Nothing may be mounted in it."""
    done = _named(name).gc(keep_bytes=keep_bytes, older_than=older_than, dry_run=dry_run)
    if as_json:
        emit_json({"name": name, "dry_run": dry_run, **asdict(done)})
        return
    verb = "would remove" if dry_run else "removed"
    write(f"{verb} {done.objects} objects, {human_size(done.disk_bytes)}; ")
    write(f"{done.remaining_objects} are left, {human_size(done.remaining_disk_bytes)}\n")


@command.command("verify")
@click.argument("name")
@click.option("--repair", is_flag=True, help="Put aside what is bad. Nothing may be mounted in it.")
@_json
def verify(name: str, repair: bool, as_json: bool) -> int:
    """Hash every object of domain NAME."""
    found = _named(name).verify(repair=repair)
    if as_json:
        emit_json({"name": name, **asdict(found)})
    else:
        for problem in found.problems:
            write(f"{quoted(problem.path)}: {quoted(problem.problem)}")
            write(" (put aside)\n" if problem.repaired else "\n")
        write(f"{found.objects} objects, {human_size(found.bytes)}: {len(found.problems)} problems\n")
    return report.ERROR if found.problems else report.OK


@command.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> int:
    """Delete domains with all their objects. Nothing may be mounted in them."""
    errors: list[OSError] = []
    for name in names:
        try:
            _named(name).remove()
        except OSError as error:
            errors.append(error)
    for failure in errors:
        report.complain(failure)
    return max(map(report.exit_status, errors), default=report.OK)
