"""The command table and the frame around every command: errors, interrupts, broken pipes, exit status."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from . import report
from .output import flush

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command -> its line in ``pyerofs --help``. The command ``x-y`` is the object ``command`` in ``x_y.py``, and
#: is imported only when it is used. Adding a command is adding a line here and its file.
COMMANDS = {
    "build": "Build an image from a directory.",
    "info": "Show the facts and features of an image.",
    "ls": "List the entries of an image.",
    "cat": "Write files of an image to standard output.",
    "extract": "Extract files from an image.",
    "stat": "Show everything about entries of an image.",
    "diff": "Show what differs between two images or directories.",
    "mount": "Mount an image.",
    "umount": "Unmount images.",
    "mounts": "List what is mounted.",
    "run": "Run a command that sees images mounted.",
    "domain": "Look after domains of shared page cache.",
    "probe": "Find out what this machine can do.",
    "completion": "Print the completion script for a shell.",
}

#: Commands that fail with another status than report.exit_status says, as sh does for what it starts and
#: diff(1) for trouble.
FAILURE_STATUS = {"run": 125, "diff": 2}


class ReaderGoneError(Exception):
    """Nobody reads standard output any more."""


class StoppedError(Exception):
    """The user interrupted a command, by Ctrl-C or by another signal."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(str(interrupt))
        self.status: int = getattr(interrupt, "status", report.INTERRUPTED)


class CommandTable(click.Group):
    """A group whose commands are modules that are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f".{cmd_name.replace('-', '_')}", __package__)
        command: click.Command = module.command
        command.short_help = COMMANDS[cmd_name]
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            flush()
        except BrokenPipeError:  # click would end the program with status 1
            raise ReaderGoneError from None
        except KeyboardInterrupt as error:  # click would write an empty line
            raise StoppedError(error) from None
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"pyerofs {__version__}")
        ctx.exit()


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version.",
)
def cli() -> None:
    """Build, read, mount and share EROFS images.

    \b
    Exit status: 0 ok; 1 error or corrupt image; 2 usage; 3 unsupported;
    4 refused by policy; 5 I/O error; 130 interrupted.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; nothing is raised and no traceback is printed."""
    _fill_standard_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    failure = FAILURE_STATUS.get(next((a for a in arguments if not a.startswith("-")), ""))
    try:
        status: Any = cli.main(arguments, prog_name="pyerofs", standalone_mode=False)
        return status if isinstance(status, int) else report.OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return failure or report.USAGE
    except click.ClickException as error:
        report.complain_usage(error)
        return failure or report.USAGE
    except (KeyboardInterrupt, StoppedError, click.Abort) as error:
        report.warn(str(error) or "interrupted")
        return error.status if isinstance(error, StoppedError) else report.INTERRUPTED
    except ReaderGoneError:
        _silence_stdout()
        return report.BROKEN_PIPE
    except Exception as error:
        if os.environ.get("PYEROFS_TRACEBACK"):
            raise
        report.complain(error)
        try:
            sys.stdout.flush()
        except OSError:  # what could not be written has been said
            _silence_stdout()
        return failure or report.exit_status(error)


def _fill_standard_streams() -> None:
    """Open what the caller has closed of the standard streams, or the image would take the place of one.

    Writing to standard output fails then, as it should; what nobody wants to hear goes nowhere.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", errors="surrogateescape", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _silence_stdout() -> None:
    """Keep the interpreter from flushing once more at exit what nobody takes."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
