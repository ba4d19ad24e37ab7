"""``pyerofs completion``: the completion script of a shell."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: eval "$(pyerofs completion bash)"       in ~/.bashrc
    zsh:  eval "$(pyerofs completion zsh)"        in ~/.zshrc, after compinit
    fish: pyerofs completion fish > ~/.config/fish/completions/pyerofs.fish
    """
    from click.shell_completion import get_completion_class

    from .app import cli

    made = get_completion_class(shell)
    assert made is not None, "click knows the shells that the argument allows"
    click.echo(made(cli, {}, "pyerofs", "_PYEROFS_COMPLETE").source())
