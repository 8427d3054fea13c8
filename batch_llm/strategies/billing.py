"""What a request is billed for: the counts that a provider reports, or an estimate where they cannot be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .base import BilledRequest, TokenUsage

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse

BYTES_PER_TOKEN = 4
"""Of UTF-8: English has about four characters a token; scripts of two or three bytes a character have fewer."""

MOST_TOKENS = 50_000_000
"""No model reads or writes so much in a request: what is beyond is not a count of tokens."""

CONTEXT = ("service_tier", "processing", "speed", "route", "search_type")
"""What of a response's details may decide its price, as genai-prices names it."""

_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count", "promptTokenCount", "inputTokens")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count", "candidatesTokenCount", "outputTokens")
"""Names under which strategies report the same."""

NOT_BILLED = frozenset({"details", "cost", "unmeasured_requests", "requests", "tool_calls", "total_tokens"})
"""What a usage of pydantic-ai has beside what is billed."""
_WRITES = ("cache_write_5m_tokens", "cache_write_1h_tokens")


def request_of(response: ModelResponse, sent: Callable[[], str]) -> BilledRequest:
    """Return what a response of pydantic-ai is billed for.

    Args:
        response: The response.
        sent: Returns what was sent; asked only where the provider does not report it.
    """
    units = {name: count for name, count in vars(response.usage).items() if count and name not in NOT_BILLED}
    return billed(units, sent, lambda: _received(response), response.provider_details)


def requests_of(messages: Sequence[ModelMessage]) -> list[BilledRequest]:
    """Return what the responses in a conversation with pydantic-ai are billed for."""

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
    """Return a request's billed units: as counted where that can be, else estimated from the texts.

    Args:
        counts: What the provider reports.
        sent: Returns the text of the request.
        received: Returns the text of the answer.
        details: What else is known of the response, such as its service tier.
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
    """Sum what was billed, under the names that every strategy gives; `finish_reason` is the last answer's."""
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
    """Return the usage that any strategy reports, with an estimate where it reports none that can be right.

    A strategy that counts only what it sends, or only what it receives, is taken at its word.

    Args:
        usage: What the strategy reports.
        sent: The prompt.
        received: Returns the text of the answer.
    """
    if isinstance(usage, TokenUsage) and usage.requests:
        return usage
    reported = [usage.get(name, 0) for name in ("input_tokens", "output_tokens")]
    if all(type(count) is int and 0 <= count <= MOST_TOKENS for count in reported) and any(reported):
        return dict(usage) if not isinstance(usage, dict) else usage
    counts: dict[str, Any] = {**usage, "cache_read_tokens": usage.get("cached_input_tokens", 0)}
    counts["input_tokens"] = _first(usage, _INPUT)
    counts["output_tokens"] = _first(usage, _OUTPUT)
    counts = {name: count for name, count in counts.items() if name in _KNOWN and count}
    request = billed(counts, lambda: sent, received)
    if isinstance(usage, TokenUsage):
        return usage_of([request], safety_ratings=usage.safety_ratings, finish_reason=usage.finish_reason)
    return usage_of([request])


_KNOWN = frozenset({"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"})


def tokens_in(text: str) -> int:
    """Return about how many tokens a text has, whatever the model's tokenizer; 0 for no text."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def text_of(messages: Iterable[ModelMessage]) -> str:
    """Return the text of messages of pydantic-ai, for an estimate of their tokens."""
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
    """Whether a number can be right: tokens are whole, seconds of audio need not be."""
    if type(count) is int:
        return 0 <= count <= MOST_TOKENS
    return type(count) is float and 0 <= count <= MOST_TOKENS and not name.endswith("_tokens")


def _is_count(count: object) -> bool:
    return type(count) is int and 0 < count <= MOST_TOKENS


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int | None:
    """Return the first of these counts that can be one; a whole number may be written as 12.0."""
    for name in names:
        count: object = usage.get(name)
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if isinstance(count, int) and _is_count(count):
            return count
    return None


def _include(units: dict[str, float]) -> None:
    """Make parts fit into what they are part of, for some providers report them beside it."""
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
