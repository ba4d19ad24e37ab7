"""Limits: what is hit says its name and numbers, how to raise it, and raising it helps."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import pyerofs
import tiny
from pyerofs.cli.app import cli, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The sample tree as an image in a file."""
    path = tmp_path / "sample.erofs"
    path.write_bytes(tiny.sample())
    return str(path)


def test_a_limit_that_is_hit_is_told_with_its_numbers() -> None:
    with (
        pyerofs.open(tiny.sample(), limits={"directory_bytes": 10}) as image,
        pytest.raises(pyerofs.LimitExceeded, match="limit exceeded: directory_bytes is") as caught,
    ):
        list((image / "sub").iterdir())
    error = caught.value
    assert (error.limit_name, error.limit) == ("directory_bytes", 10)
    assert error.value is not None
    assert error.value > 10
    assert error.filename == "/sub"
    remedy = f"limits={{'directory_bytes': {error.value}}} or --limit directory_bytes={error.value}"
    assert error.remedy is not None
    assert error.remedy.startswith(remedy)
    again = pickle.loads(pickle.dumps(error))
    assert (again.limit_name, again.value, again.limit) == (error.limit_name, error.value, 10)


def test_what_the_remedy_says_helps() -> None:
    limits = {"directory_bytes": 10}
    for _ in range(20):
        raised = _limit_hit(limits)
        if raised is None:
            return
        assert raised.limit_name is not None
        assert raised.value is not None
        assert raised.value > limits[raised.limit_name]
        limits[raised.limit_name] = raised.value
    pytest.fail("raising the limits one by one comes to no end")


@pytest.mark.parametrize("name", ["depth", "walk_entries"])
@pytest.mark.parametrize("top_down", [True, False])
def test_every_way_through_a_tree_keeps_to_the_limits(name: str, top_down: bool) -> None:
    filesystem = pytest.importorskip("pyerofs.fsspec").ErofsFileSystem
    with pyerofs.open(tiny.sample()) as image:
        entries = sum(1 for _ in image.root.scan())
        levels = 1 + max(entry.path.count("/") for entry in image.root.scan() if entry.is_dir())
    enough = {"depth": levels, "walk_entries": entries}[name]
    for way in range(5):
        _go(filesystem, {name: enough}, top_down, way)
        with pytest.raises(pyerofs.LimitExceeded) as caught:
            _go(filesystem, {name: enough - 1}, top_down, way)
        error = caught.value
        assert (error.limit_name, error.value, error.limit) == (name, enough, enough - 1)
        assert f"--limit {name}={2 * (enough - 1)} allows more" in str(error)


def _go(filesystem: Any, limits: dict[str, int], top_down: bool, way: int) -> None:
    """Go through the whole tree in one of the ways that there are."""
    with pyerofs.open(tiny.sample(), limits=limits) as image:
        fs = filesystem(fo=image)
        match way:
            case 0:
                list(image.root.scan())
            case 1:
                list(image.root.walk(top_down))
            case 2:
                list(fs.walk("", topdown=top_down))
            case 3:
                fs.find("")
            case _:
                fs.find("", maxdepth=9)


def test_a_walk_ends_where_it_has_seen_too_much_and_goes_on_where_it_was_too_deep() -> None:
    for name, seen in (("depth", ["/"]), ("walk_entries", [])):
        errors: list[OSError] = []
        with pyerofs.open(tiny.sample(), limits={name: 1}) as image:
            walked = [here.path for here, _, _ in image.root.walk(on_error=errors.append)]
        assert walked == seen
        assert errors
        assert all(isinstance(error, pyerofs.LimitExceeded) for error in errors)


def _limit_hit(limits: dict[str, int]) -> pyerofs.LimitExceeded | None:
    with pyerofs.open(tiny.sample(), limits=limits) as image:
        try:
            list(image.root.rglob("*"))
        except pyerofs.LimitExceeded as error:
            return error
    return None


def test_every_limit_can_be_named_and_is_documented() -> None:
    limits = pyerofs.limits()
    assert limits["depth"] == 2048
    with pyerofs.open(tiny.sample(), limits=limits) as image:
        assert (image / "file.txt").read_bytes() == b"hello\nworld\n"
    documentation = pyerofs.limits.__doc__
    assert documentation is not None
    for name in limits:
        assert f"``{name}``" in documentation
    with pytest.raises(ValueError, match="no limit 'deepness'; there are depth, "):
        pyerofs.open(tiny.sample(), limits={"deepness": 1})


def test_a_limit_is_a_number_of_64_bits() -> None:
    for value in (-1, 1 << 64):
        with pytest.raises(ValueError, match=f"limits: 'depth' can't be {value}, only a number from 0 to "):
            pyerofs.open(tiny.sample(), limits={"depth": value})
    with pyerofs.open(tiny.sample(), limits={"depth": (1 << 64) - 1}) as image:
        assert list(image.root.scan())
    with pytest.raises(TypeError):
        pyerofs.open(tiny.sample(), limits={"depth": "1"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "-R", "IMAGE"),
        ("ls", "IMAGE", "sub"),
        ("cat", "IMAGE", "sub/inner.txt"),
        ("stat", "IMAGE", "sub/deep"),
    ],
    ids=" ".join,
)
def test_every_reading_command_takes_limits(
    arguments: tuple[str, ...], path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command, *rest = [path if argument == "IMAGE" else argument for argument in arguments]
    assert run([command, *rest]) == 0
    capfd.readouterr()
    status = run([command, "--limit", "directory_bytes=10", *rest])
    message = capfd.readouterr().err
    assert status == 1
    assert "limit exceeded: directory_bytes" in message
    assert "--limit directory_bytes=" in message
    assert run([command, "--limit", "directory_bytes=4k", "--limit", "depth=9", *rest]) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("depth", "'depth' is not NAME=VALUE"),
        ("deepness=1", "there is no limit 'deepness'; there are depth, "),
        ("depth=much", "'much' is not a size"),
        ("depth=18446744073709551616", "more than 64 bits hold"),
    ],
)
def test_a_limit_that_makes_no_sense_is_a_usage_error(given: str, message: str, path: str) -> None:
    result = CliRunner().invoke(cli, ["info", "--limit", given, path])
    assert result.exit_code == 2
    assert message in result.output
