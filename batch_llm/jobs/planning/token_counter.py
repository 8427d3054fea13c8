"""Offline token counts with the model's tokenizer, for models of OpenAI."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPENAI = re.compile(r"openai(-chat|-responses)?:(ft:)?(chatgpt-|gpt-|o\d)")
_OLDER = re.compile(r"(gpt-4|gpt-3\.5|gpt-35)(?![.\do])")
"""Models with the older encoding; GPT-4o, GPT-4.1 and GPT-4.5 have the newer one."""

TOKENS_A_MESSAGE, TOKENS_A_CALL = 4, 3
"""Tokens added to each message and to each call:
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken"""


def tokenizer_of(model: str) -> str | None:
    """Return the name of the tokenizer of an OpenAI model; None for all other models."""
    if not (found := _OPENAI.match(model)):
        return None
    return "cl100k_base" if _OLDER.match(model, found.start(3)) else "o200k_base"


def count_tokens(encoding: str, texts: Sequence[str]) -> list[int] | None:
    """Return the number of tokens of each text; None without the extra `tokenizers`.

    Loading takes a second, then a microsecond per token.
    """
    try:
        from toktok import batch_count
    except ImportError:
        return None
    return batch_count(texts, encoding)
