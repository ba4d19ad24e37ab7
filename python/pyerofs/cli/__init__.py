"""The command line. One file per command; app.py holds the table and the way out.

This file imports nothing, so that the start-up time of a command is that of what it uses.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run ``pyerofs`` with the process's arguments and exit with its status."""
    try:
        from .app import run

        status = run()
    except KeyboardInterrupt:  # before the frame around every command stands
        status = 130
    raise SystemExit(status)
