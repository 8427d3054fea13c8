"""Errors of the Prefect server, in one line; importing it does not import Prefect."""

from __future__ import annotations

import re
from itertools import islice

from batch_llm.errors import BatchLLMError
from batch_llm.jobs.secrets import redact

MOST_LETTERS = 400


_REASON = re.compile(r"""["']msg["']\s*:\s*["']([^"']{1,300})|(Flow run parameters must be [^"'\]]{1,100})""")


class ServerUnavailable(BatchLLMError):
    """No Prefect server is available; the message names the server and the reason in one line."""


def one_line(error: object) -> str:
    """Return the text of an error as one short, non-empty line without secrets.

    When Prefect rejects the parameters of a run, it repeats all of them and their schema; then only the reasons are
    returned.
    """
    text = str(error)
    if len(text) > MOST_LETTERS:
        reasons = dict.fromkeys(match[1] or match[2] for match in islice(_REASON.finditer(text), 3))
        text = f"{text[:100]} ... {'; '.join(reasons)}" if reasons else f"{text[:MOST_LETTERS]} ..."
    return redact(" ".join(text.split()))[: 2 * MOST_LETTERS] or type(error).__name__
