"""Repair of chat completions that lack fields, or have fields of other types, that clients require.

Only missing fields and fields of a wrong type are changed; the answer and valid numbers are kept.
"""

from __future__ import annotations

import json
from typing import Any, cast

from batch_llm.strategies.billing import round_half_up

Json = dict[str, Any]

_COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
_OPTIONAL = {"service_tier": str, "system_fingerprint": str, "logprobs": dict, "annotations": list, "refusal": str}


def complete(body: Json) -> bool:
    """Repair a chat completion in place and return whether anything was changed."""
    choices: object = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    before = json.dumps(body)
    _as_text(body, "id", "")
    _as_text(body, "model", "")
    body["object"] = "chat.completion"
    body["created"] = count(body.get("created")) or 0
    _drop_odd(body)
    for index, choice in enumerate(cast("list[object]", choices)):
        if isinstance(choice, dict):
            _complete_choice(cast("Json", choice), index)
    if "usage" in body:
        body["usage"] = _complete_usage(body["usage"])
    return json.dumps(body) != before


def count(value: object) -> int | None:
    """Return a value as an integer, also from a float or text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return value if isinstance(value, int) else round_half_up(float(value))
    except (ValueError, OverflowError):
        return None


def _complete_choice(choice: Json, index: int) -> None:
    if type(choice.get("index")) is not int:
        choice["index"] = index
    if not isinstance(choice.get("finish_reason"), str) or not choice["finish_reason"]:
        choice["finish_reason"] = None
    _drop_odd(choice)
    message: object = choice.get("message")
    if isinstance(message, dict):
        _complete_message(cast("Json", message))


def _complete_message(message: Json) -> None:
    message["role"] = "assistant"
    _drop_odd(message)
    content: object = message.get("content")
    if isinstance(content, dict):  # an object instead of its JSON text
        message["content"] = json.dumps(content, ensure_ascii=False)
    elif content is not None and not isinstance(content, str | list):
        message["content"] = json.dumps(content)
    calls: object = message.get("tool_calls")
    for index, call in enumerate(cast("list[object]", calls) if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            _complete_call(cast("Json", call), index)


def _complete_call(call: Json, index: int) -> None:
    _as_text(call, "id", f"call_{index}")
    call["type"] = call.get("type") or "function"
    function: object = call.get("function")
    if isinstance(function, dict):
        named = cast("Json", function)
        if not isinstance(named.get("arguments"), str):
            named["arguments"] = json.dumps(named.get("arguments") or {}, ensure_ascii=False)


def _complete_usage(usage: object) -> Json | None:
    if not isinstance(usage, dict):
        return None
    counts = cast("Json", usage)
    found = [
        count(counts.get(name)) if counts.get(name) is not None else count(counts.get(other)) for name, other in _COUNTS
    ]
    total = count(counts.get("total_tokens"))
    if total is None and found == [None, None]:
        return None
    sent, received = found
    if sent is None:
        sent = max(0, (total or 0) - (received or 0))
    if received is None:
        received = max(0, (total or 0) - sent)
    whole = {name: _whole(value) for name, value in counts.items()}
    return whole | {
        "prompt_tokens": sent,
        "completion_tokens": received,
        "total_tokens": sent + received if total is None else total,
    }


def _whole(value: object) -> object:
    """Return a value with floats rounded to integers, also within nested objects."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in cast("Json", value).items()}
    return count(value) if isinstance(value, float) else value


def _as_text(body: Json, name: str, default: str) -> None:
    if not isinstance(body.get(name), str):
        body[name] = default


def _drop_odd(body: Json) -> None:
    for name, kind in _OPTIONAL.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            body[name] = None
