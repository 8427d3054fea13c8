"""`batch-llm completion`."""

from __future__ import annotations

from typing import Literal

from .options import Flag


def completion(shell: Literal["bash", "zsh", "fish"], /, *, install: Flag = False) -> None:
    """Print what makes a shell complete commands and options, or install it.

    Examples:

      batch-llm completion bash --install
      batch-llm completion fish > ~/.config/fish/completions/batch-llm.fish

    Parameters
    ----------
    shell
        Which shell.
    install
        Write it where the shell looks for it, and name it in the start-up file of bash and zsh.
    """
    from batch_llm.cli.app import app

    if install:
        print(f"Wrote {app.install_completion(shell=shell)}; it counts from the next shell on")
    else:
        print(app.generate_completion(shell=shell))
