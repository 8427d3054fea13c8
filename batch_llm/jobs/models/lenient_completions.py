"""Repair of chat completions that lack fields, or have fields of other types, that clients require.

Only missing fields and fields of a wrong type are changed; the answer and valid numbers are kept.
"""

from __future__ import annotations

import json
from typing import Any, cast

from batch_llm.strategies.billing import round_half_up

Json = dict[str, Any]

_COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
_OPTIONAL = {"service_tier": str, "system_fingerprint": str, "refusal": str}
_UNUSED = ("logprobs", "annotations", "audio")
"""Fields that no job uses, and that clients validate."""
_LATEST = 253_402_300_799
"""The last second of the year 9999: clients cannot represent later times."""
_ENDINGS = {
    "length": "length max_tokens max_output_tokens max_length model_length token_limit",
    "content_filter": "content_filter contentfilter content_filtered sensitive safety refusal recitation blocklist "
    "prohibited_content spii guardrail_intervened",
    "stop": "stop end_turn stop_sequence",
}
_ENDING_OF = {word: ending for ending, words in _ENDINGS.items() for word in words.split()}


def complete(body: Json) -> bool:
    """Repair a chat completion in place and return whether anything was changed."""
    choices: object = body.get("choices")
    if not isinstance(choices, list | dict) or not choices:
        return False
    before = json.dumps(body)
    if isinstance(choices, dict):
        choices = body["choices"] = [cast("Json", choices)]
    _as_text(body, "id", "")
    _as_text(body, "model", "")
    body["object"] = "chat.completion"
    body["created"] = moment(body.get("created"))
    _drop_odd(body)
    found = [cast("Json", choice) for choice in cast("list[object]", choices) if isinstance(choice, dict)]
    for index, choice in enumerate(found):
        _complete_choice(choice, index)
    if found:
        body["choices"] = found
    if "usage" in body:
        body["usage"] = _complete_usage(body["usage"])
    return json.dumps(body) != before


def moment(value: object) -> int:
    """Return a time in seconds since 1970 as an integer; 0 if it is not one that clients can represent."""
    seconds = count(value) or 0
    return seconds if 0 <= seconds <= _LATEST else 0


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
    reason: object = choice.get("finish_reason")
    if not isinstance(reason, str) or not reason:
        choice["finish_reason"] = None
    else:  # other providers' words: an answer that was cut off or blocked is not complete
        choice["finish_reason"] = _ENDING_OF.get(reason.lower(), reason)
    _drop_odd(choice)
    message: object = choice.get("message")
    if not isinstance(message, dict):
        found = next((choice[name] for name in ("message", "text", "delta") if choice.get(name)), None)
        if isinstance(found, str):
            choice["message"] = {"content": found}
        elif isinstance(found, dict):
            choice["message"] = found
    message = choice.get("message")
    if isinstance(message, dict):
        _complete_message(cast("Json", message))


def _complete_message(message: Json) -> None:
    message["role"] = "assistant"
    _drop_odd(message)
    content: object = message.get("content")
    if isinstance(content, dict):  # an object instead of its JSON text
        message["content"] = json.dumps(content, ensure_ascii=False)
    elif isinstance(content, list):
        message["content"] = [_text_part(part) for part in cast("list[object]", content)]
    elif content is not None and not isinstance(content, str):
        message["content"] = json.dumps(content)
    calls: object = message.get("tool_calls")
    if not calls:
        return
    entries: list[object] = cast("list[object]", calls) if isinstance(calls, list) else []
    found = [call for index, each in enumerate(entries) if (call := _complete_call(each, index))]
    message["tool_calls"] = found or None


def _text_part(part: object) -> object:
    """Return a part of the Responses API as one of a chat completion."""
    if not isinstance(part, dict) or cast("Json", part).get("type") not in ("output_text", None):
        return cast("object", part)
    return {**cast("Json", part), "type": "text"}


def _complete_call(call: object, index: int) -> Json | None:
    """Return a tool call with the fields that clients require; None if it names no function."""
    function: object = cast("Json", call).get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(cast("Json", function).get("name"), str):
        return None
    made, named = dict(cast("Json", call)), dict(cast("Json", function))
    _as_text(made, "id", f"call_{index}")
    if not isinstance(named.get("arguments"), str):
        named["arguments"] = json.dumps(named.get("arguments") or {}, ensure_ascii=False)
    return made | {"type": "function", "function": named}


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
    for name in _UNUSED:
        if body.get(name) not in (None, []):
            body[name] = None
