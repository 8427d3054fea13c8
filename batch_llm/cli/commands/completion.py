"""`batch-llm completion`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from cyclopts import App

from batch_llm.cli.options import Flag


def completion_command(app: App) -> Callable[..., None]:
    """Return the command `completion`, which prints or installs the completion script of `app`."""

    def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
        """Print a shell completion script, or install it.

        Examples:

          batch-llm completion bash --install
          batch-llm completion fish > ~/.config/fish/completions/batch-llm.fish

        Parameters
        ----------
        shell
            Shell to print the script for.
        install
            Write the script where the shell looks for it, and add it to the start-up file of bash and zsh.
        """
        if install:
            print(f"Wrote {app.install_completion(shell=shell)}; it takes effect in the next shell")
        else:
            print(app.generate_completion(shell=shell))

    return completion
