"""Billed units of a request: the counts that a provider reports, or an estimate if they are missing or implausible."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import BilledRequest, TokenUsage

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse

BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token: about four characters in English, fewer in scripts with multi-byte characters."""

MOST_TOKENS = 50_000_000
"""Largest plausible token count of a request: no model reads or writes more."""

CONTEXT = ("service_tier", "processing", "speed", "route", "search_type")
"""Details of a response that may determine its price, as genai-prices names them."""

_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count", "promptTokenCount", "inputTokens")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count", "candidatesTokenCount", "outputTokens")
"""Names under which strategies report their output tokens; `_INPUT` has those of the input tokens."""

NOT_BILLED = frozenset({"details", "cost", "unmeasured_requests", "requests", "tool_calls", "total_tokens"})
"""Attributes of a pydantic-ai usage that are not billed."""
_WRITES = ("cache_write_5m_tokens", "cache_write_1h_tokens")


def request_of(response: ModelResponse, sent: Callable[[], str]) -> BilledRequest:
    """Return the billed units of a pydantic-ai response.

    Args:
        response: The response.
        sent: Function that returns the text of the request; called only if the provider reports no input tokens.
    """
    units = {name: count for name, count in vars(response.usage).items() if count and name not in NOT_BILLED}
    return billed(units, sent, lambda: _received(response), response.provider_details)


def requests_of(messages: Sequence[ModelMessage]) -> list[BilledRequest]:
    """Return the billed units of each response in a pydantic-ai conversation."""

    def sent_before(place: int) -> Callable[[], str]:
        return lambda: text_of(messages[:place])

    return [
        request_of(message, sent_before(place)) for place, message in enumerate(messages) if message.kind == "response"
    ]


def billed(
    counts: Mapping[str, Any],
    sent: Callable[[], str],
    received: Callable[[], str],
    details: Mapping[str, Any] | None = None,
) -> BilledRequest:
    """Return the billed units of a request: the reported counts if they are plausible, else estimates from the texts.

    Args:
        counts: Counts that the provider reports.
        sent: Function that returns the text of the request.
        received: Function that returns the text of the answer.
        details: Other details of the response, such as its service tier.
    """
    units = {name: count for name, count in counts.items() if _is_amount(name, count)}
    estimated = 0
    if not units.get("input_tokens"):
        units = {name: count for name, count in units.items() if name.startswith("output_") or "tokens" not in name}
        estimated += (guess := max(1, tokens_in(sent())))
        units["input_tokens"] = guess
    if not units.get("output_tokens"):
        units = {name: count for name, count in units.items() if not name.startswith("output_")}
        estimated += (guess := tokens_in(received()))
        units["output_tokens"] = guess
    if len(units) > 2:
        _include(units)
    context = () if not details else tuple((name, tier) for name in CONTEXT if (tier := _tier(details.get(name))))
    return BilledRequest(units, context, estimated)


def usage_of(
    requests: Sequence[BilledRequest],
    *,
    safety_ratings: Mapping[str, str] | None = None,
    finish_reason: str | None = None,
) -> TokenUsage:
    """Return the sum of billed requests as a token usage; `finish_reason` is that of the last answer."""
    sent = received = cached = written = estimated = 0
    for request in requests:
        units = request.units
        sent += int(units.get("input_tokens", 0))
        received += int(units.get("output_tokens", 0))
        cached += int(units.get("cache_read_tokens", 0))
        written += int(units.get("cache_write_tokens", 0))
        estimated += request.estimated
    counts = {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received}
    more = {"cached_input_tokens": cached, "cache_write_tokens": written, "estimated_tokens": estimated}
    counts |= {name: count for name, count in more.items() if count}
    return TokenUsage(counts, safety_ratings=safety_ratings, finish_reason=finish_reason, requests=requests)


def complete(usage: Mapping[str, Any], sent: str, received: Callable[[], str]) -> dict[str, int]:
    """Return the usage that a strategy reports, completed with estimates if it is missing or implausible.

    A usage with only input tokens or only output tokens is accepted unchanged.

    Args:
        usage: Usage that the strategy reports.
        sent: The prompt.
        received: Function that returns the text of the answer.
    """
    if isinstance(usage, TokenUsage) and usage.requests:
        return usage
    reported = [usage.get(name, 0) for name in ("input_tokens", "output_tokens")]
    if all(type(count) is int and 0 <= count <= MOST_TOKENS for count in reported) and any(reported):
        return dict(usage) if not isinstance(usage, dict) else usage
    counts: dict[str, Any] = {**usage, "cache_read_tokens": plausible_count(usage.get("cached_input_tokens"))}
    counts["input_tokens"] = _first(usage, _INPUT)
    counts["output_tokens"] = _first(usage, _OUTPUT)
    counts = {name: count for name, count in counts.items() if name in _KNOWN and count}
    request = billed(counts, lambda: sent, received)
    if isinstance(usage, TokenUsage):
        return usage_of([request], safety_ratings=usage.safety_ratings, finish_reason=usage.finish_reason)
    return usage_of([request])


_KNOWN = frozenset({"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"})


def plausible_count(value: object) -> int | None:
    """Return a reported number of tokens as an integer; None if it is not plausible.

    Gateways report counts as floats, with fractions, or as text.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and 0 <= value <= MOST_TOKENS:
        value = round_half_up(value)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def round_half_up(value: float) -> int:
    """Return the nearest integer; of two, the larger one: a fraction of a token is billed as a whole one."""
    return math.floor(value + 0.5)


def tokens_in(text: str) -> int:
    """Return the approximate number of tokens of a text, independent of the tokenizer; 0 for an empty text."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def text_of(messages: Iterable[ModelMessage]) -> str:
    """Return the text of pydantic-ai messages, for an estimate of their tokens."""
    found: list[str] = []
    for message in messages:
        if message.kind == "response":
            found.append(_received(message))
            continue
        found.append(message.instructions or "")
        found += [str(getattr(part, "content", "")) for part in message.parts]
    return "\n".join(found)


def _received(response: ModelResponse) -> str:
    texts = [str(getattr(part, "content", None) or getattr(part, "args", None) or "") for part in response.parts]
    return "".join(texts)


def _is_amount(name: str, count: object) -> bool:
    """Return whether a reported amount is plausible: tokens are integers, seconds of audio may be fractions."""
    if type(count) is int:
        return 0 <= count <= MOST_TOKENS
    return type(count) is float and 0 <= count <= MOST_TOKENS and not name.endswith("_tokens")


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """Return the first plausible count under one of these names."""
    return next(filter(None, (plausible_count(usage.get(name)) for name in names)), None)


def _include(units: dict[str, float]) -> None:
    """Add parts to their totals if they exceed them, because some providers report them separately."""
    writes = sum(units.get(name, 0) for name in _WRITES)
    if writes > units.get("cache_write_tokens", 0):
        units["cache_write_tokens"] = writes
    cached = units.get("cache_read_tokens", 0) + units.get("cache_write_tokens", 0)
    if cached > units["input_tokens"]:
        units["input_tokens"] += cached
    if (thought := units.get("output_reasoning_tokens", 0)) > units["output_tokens"]:
        units["output_tokens"] += thought


def _tier(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""
