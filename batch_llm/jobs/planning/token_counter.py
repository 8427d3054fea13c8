"""Tokens of a prompt, counted without a call where the model's own tokenizer is known: OpenAI's, offline."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPENAI = re.compile(r"openai(-chat|-responses)?:(ft:)?(chatgpt-|gpt-|o\d)")
_OLDER = re.compile(r"(gpt-4|gpt-3\.5|gpt-35)(?![.\do])")
"""GPT-4o, GPT-4.1 and GPT-4.5 have the newer encoding."""

TOKENS_A_MESSAGE, TOKENS_A_CALL = 4, 3
"""What frames each message, and each call: https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""


def encoding_of(model: str) -> str | None:
    """Return the encoding of a model of OpenAI's; None for any other, whose tokenizer nobody knows here."""
    if not (found := _OPENAI.match(model)):
        return None
    return "cl100k_base" if _OLDER.match(model, found.start(3)) else "o200k_base"


def count_tokens(encoding: str, texts: Sequence[str]) -> list[int]:
    """Return how many tokens each text has; it takes a second to load, then a microsecond a token."""
    from toktok import batch_count

    return batch_count(texts, encoding)
