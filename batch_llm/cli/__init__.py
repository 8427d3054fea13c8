"""The command line of batch-llm.

Arguments come in; an exit code and text for the terminal go out. `app` lists the commands, `commands` declares their
options, `actions` runs them, `terminal` prints.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 completed, 1 failed, 2 bad input, 130 interrupted.

    Errors that a user can cause are printed as one line on standard error; with --json, also as an object with `error`
    on standard output.

    Args:
        arguments: Arguments without the program's name; None for those of the process.

    Example:
        >>> main(["presets"])  # doctest: +SKIP
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect would send usage data from a demo that promises no network
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):  # an answer may hold characters that the terminal's encoding lacks
        cast("io.TextIOWrapper[Any]", out).reconfigure(errors="backslashreplace")
    from cyclopts import CycloptsError

    from batch_llm.errors import BatchLLMError

    from .app import app

    typed = sys.argv[1:] if arguments is None else list(arguments)
    for_program = "--json" in typed
    try:
        _read_env_file()
        code = app(typed, print_error=False, exit_on_error=False, result_action="return_value")
    except CycloptsError as error:
        return _print_error(f"{error} (batch-llm --help)", for_program=for_program)
    except BatchLLMError as error:
        return _print_error(str(error), for_program=for_program)
    except KeyboardInterrupt:
        return _interrupted(typed)
    except RuntimeError as error:
        from .terminal.interrupts import is_interrupt

        if not is_interrupt(error):
            raise
        return _interrupted(typed)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output has exited, as in `batch-llm presets | head -1`
        return 0
    return code or 0


def _interrupted(typed: Sequence[str]) -> int:
    when = " before the run started" if "run" in typed[:1] else ""
    print(f"batch-llm: interrupted{when}", file=sys.stderr)
    return INTERRUPTED


def _read_env_file() -> None:
    """Set the variables of `.env` in the working folder; variables that are already set win.

    Raises:
        JobError: The file cannot be read; the message shows nothing of its content.
    """
    file = Path(".env")
    if not file.is_file():
        return
    from dotenv import load_dotenv

    from batch_llm.errors import JobError

    try:
        load_dotenv(file, encoding="utf-8-sig")
    except OSError as error:
        raise JobError(f"cannot read {file.absolute()}: {error.strerror}") from error
    except ValueError:  # its message may contain a part of a key
        raise JobError(f"{file.absolute()} is not UTF-8 text, or contains a NUL character: save it again") from None


def _print_error(text: str, *, for_program: bool) -> int:
    from batch_llm.jobs.untrusted_text import visible

    line = " ".join(text.split())
    print(f"batch-llm: {visible(line)}", file=sys.stderr)
    if for_program:
        from .terminal.screen import print_json

        print_json({"error": line})
    return BAD_INPUT
