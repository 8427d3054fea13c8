"""Normalization of the token usage in a provider's reply before its client parses it.

A gateway may report tokens under another provider's names, as text, as floats, or as negative numbers. A client rejects
such a reply completely, although it contains an answer that is billed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias, cast

import httpx2
import pydantic_core

from batch_llm.strategies.billing import MOST_TOKENS, plausible_count

_log = logging.getLogger(__name__)

_Json: TypeAlias = dict[str, Any]

_SENT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_eval_count")
_RECEIVED = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokens", "eval_count")
_PLACES = ("usage", "usageMetadata", "usage_metadata", "token_usage")

_CHAT = ("usage", "prompt_tokens", "completion_tokens", "total_tokens")
_MESSAGE = ("usage", "input_tokens", "output_tokens", "")
_RESPONSE = ("usage", "input_tokens", "output_tokens", "total_tokens")
_GEMINI = ("usageMetadata", "promptTokenCount", "candidatesTokenCount", "totalTokenCount")

_KNOWN_TO_ADD_THOUGHTS = ("x.ai", "perplexity.ai")
"""Hosts of providers that report reasoning separately from the completion tokens, which genai-prices handles."""


def with_normalized_usage(response: httpx2.Response) -> httpx2.Response:
    """Return a response with normalized usage; the same object if nothing has to be changed."""
    if response.status_code != 200 or not response.is_stream_consumed or response.content.lstrip()[:1] != b"{":
        return response
    try:
        body: object = pydantic_core.from_json(response.content)
    except ValueError:
        return response
    if not isinstance(body, dict) or not normalize_usage(cast("_Json", body), response.request.url.host):
        return response
    _warn_once(response.request.url.host)
    headers = {name: value for name, value in response.headers.items() if name not in _OF_THE_BODY}
    content = json.dumps(body).encode()
    return httpx2.Response(200, headers=headers, content=content, request=response.request)


@cache
def _warn_once(host: str) -> None:
    _log.warning(
        "%s reports token usage in fields or numbers that its API does not define: known names of other providers are "
        "used, and invalid numbers are ignored.",
        host,
    )


_OF_THE_BODY = ("content-length", "content-encoding", "transfer-encoding")


def normalize_usage(body: _Json, host: str = "") -> bool:
    """Normalize the usage in a reply's body in place and return whether anything was changed.

    Args:
        body: JSON of a reply: a chat completion, a response, a message, or a reply of Gemini.
        host: Host of the provider.
    """
    names = _names(body)
    if names is None:
        return False
    place, sent, received, total = names
    found = next((body[key] for key in _PLACES if isinstance(body.get(key), dict)), None)
    before = json.dumps(body.get(place))
    usage: _Json = dict(cast("_Json", found) if found is not None else {})
    if found is None and "prompt_eval_count" in body:
        usage = {name: body.get(name) for name in ("prompt_eval_count", "eval_count")}
    if usage or names is _MESSAGE:
        _rename(usage, sent, received)
        if names is _CHAT and not host.endswith(_KNOWN_TO_ADD_THOUGHTS):
            _add_thoughts(usage)
        _keep_counts(usage)
        if total and not _is_count(usage.get(total)):
            usage[total] = usage[sent] + usage[received]
        body[place] = usage
    elif place in body:
        body[place] = None
    return json.dumps(body.get(place)) != before


def billed_tokens(response: httpx2.Response) -> dict[str, int]:
    """Return the tokens that a reply reports, for an answer that its client rejects; empty if it reports none."""
    try:
        body: object = pydantic_core.from_json(response.content)
    except ValueError:
        return {}
    if not isinstance(body, dict) or (names := _names(cast("_Json", body))) is None:
        return {}
    normalize_usage(cast("_Json", body), response.request.url.host)
    place, sent, received, _ = names
    usage: Any = cast("_Json", body).get(place) or {}
    tokens = {"input_tokens": usage.get(sent) or 0, "output_tokens": usage.get(received) or 0}
    return {**tokens, "total_tokens": sum(tokens.values())} if any(tokens.values()) else {}


def _names(body: _Json) -> tuple[str, str, str, str] | None:
    if isinstance(body.get("choices"), list):
        return _CHAT
    if body.get("type") == "message":
        return _MESSAGE
    if body.get("object") == "response":
        return _RESPONSE
    return _GEMINI if "candidates" in body or "promptFeedback" in body else None


def _rename(usage: _Json, sent: str, received: str) -> None:
    """Set the counts under the client's names; 0 if no valid count is present."""
    tokens = _first(usage, sent, _SENT)
    written, read = usage.get("cache_creation_input_tokens"), usage.get("cache_read_input_tokens")
    if sent == "prompt_tokens" and not _is_count(usage.get(sent)) and tokens:
        # Anthropic's names: cache tokens are not included in the input tokens.
        details = {"cache_write_tokens": written, "cached_tokens": read}
        parts = {name: count for name, count in details.items() if _is_count(count) and count}
        tokens += sum(parts.values())
        usage["prompt_tokens_details"] = parts or usage.get("prompt_tokens_details")
    usage[sent], usage[received] = tokens, _first(usage, received, _RECEIVED)
    hit: Any = usage.get("prompt_cache_hit_tokens")  # DeepSeek's name
    if sent == "prompt_tokens" and _is_count(hit) and not usage.get("prompt_tokens_details"):
        usage["prompt_tokens_details"] = {"cached_tokens": min(hit, tokens)}


def _add_thoughts(usage: _Json) -> None:
    """Add reasoning to the output if the total shows that it is not included in the completion tokens."""
    details: object = usage.get("completion_tokens_details")
    inside: object = cast("_Json", details).get("reasoning_tokens") if isinstance(details, dict) else None
    thought: Any = inside or usage.get("reasoning_tokens")
    if not _is_count(thought) or not thought:
        return
    sent, received = usage["prompt_tokens"], usage["completion_tokens"]
    if usage.get("total_tokens") == sent + received + thought or thought > received:
        usage["completion_tokens"] = received + thought
        usage["total_tokens"] = sent + received + thought


def _keep_counts(usage: _Json) -> None:
    """Replace token counts by integers, and remove those that are not plausible and parts of a wrong type."""
    for name, value in list(usage.items()):
        if value is not None and name.lower().endswith(("tokens", "tokencount")):
            if (count := plausible_count(value)) is None:
                del usage[name]
            else:
                usage[name] = count
        elif isinstance(value, dict):
            _keep_counts(cast("_Json", value))
        elif name in _LISTS and isinstance(value, list):
            usage[name] = [part for part in cast("list[object]", value) if isinstance(part, dict)]
        elif name in _LISTS or name in _OBJECTS:
            usage[name] = None


_LISTS = frozenset(
    {"promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails", "toolUsePromptTokensDetails", "iterations"}
)
_OBJECTS = frozenset(
    {"prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"}
    | {"cache_creation", "server_tool_use"}
)
"""Parts of a usage that are lists of objects, or objects."""


def _first(usage: Mapping[str, Any], own: str, others: tuple[str, ...]) -> int:
    return next(filter(None, (plausible_count(usage.get(name)) for name in (own, *others))), 0)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_TOKENS
