"""Normalization of replies with status 200: errors inside a reply become errors, incomplete completions are repaired.

Some gateways send a rate limit or a failure with status 200: `{"error": {"code": 429}}`, `{"message": "..."}`,
`choices[0].finish_reason` "error", no choices, plain text, or an HTML page. Compatible servers omit fields of a
completion that clients require. Sources:
https://openrouter.ai/docs/api-reference/errors, and the chat completion of
https://platform.openai.com/docs/api-reference/chat/object.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, cast

import httpx2

from batch_llm.classifiers.error_bodies import read_json
from batch_llm.classifiers.error_messages import says_model_is_missing, says_no_credit
from batch_llm.classifiers.message_text import status_in_words
from batch_llm.classifiers.provider_codes import category_of_codes

from .lenient_answers import complete_message, complete_response
from .lenient_completions import complete

Json = dict[str, Any]

_ANSWERS = ("content", "candidates", "output", "promptFeedback", "data", "embeddings", "results")
_FIELDS = {
    "/chat/completions": "choices",
    "/responses": "output",
    "/messages": "content",
    ":generateContent": "candidates",
}
"""Field that contains the answer in a reply, by the end of the request's path."""
_REPAIRS = {"choices": complete, "output": complete_response, "content": complete_message}
_BILLS = ("usageMetadata", "promptFeedback")
_ERRORS = ("error", "errors", "error_msg", "error_code", "base_resp", "detail", "fault")
_BAD_GATEWAY = 502
_STATUSES = {
    "quota_exhausted": 402,
    "content_filter": 400,
    "model_not_found": 404,
    "auth": 401,
    "rate_limit": 429,
    "server_error": _BAD_GATEWAY,
}
_NOT_PASSED_ON = ("content-encoding", "content-length", "transfer-encoding", "content-type")
_LONGEST_QUOTE = 300
_EVENTS = (b"data:", b"event:")
_BROKEN_OFF = ("error", "network_error", "insufficient_system_resource")
"""Finish reasons of an answer that the provider broke off: of OpenRouter, Zhipu and DeepSeek."""


def normalized_reply(response: httpx2.Response) -> httpx2.Response:
    """Return a reply unchanged, as the error that it contains, or as a repaired answer with status 200."""
    if not 200 <= response.status_code < 300 or response.request.method != "POST":
        return response
    path = response.request.url.path
    field = next((name for end, name in _FIELDS.items() if path.endswith(end)), None)
    content = response.content.strip()
    if not content:
        return _replaced(response, _BAD_GATEWAY, _error("the reply is empty"))
    if content[:1] == b"<":
        return _replaced(response, _BAD_GATEWAY, content, "text/html")
    body, is_changed = _parsed(content)
    if not isinstance(body, dict):
        if body is None and field is None:
            return response
        error = _unusable(content, is_json=body is not None or content == b"null")
        # The words of a broken answer are not those of an error.
        status = _BAD_GATEWAY if content[:1] in b"{[" else _status_of(error)
        return _replaced(response, status, error)
    reply = cast("Json", body)
    if repair := _REPAIRS.get(field or "choices"):
        is_changed |= repair(reply)
    if error := _error_in(reply, field):
        return _replaced(response, _status_of(error), error)
    return _replaced(response, 200, reply) if is_changed or response.status_code != 200 else response


def _parsed(content: bytes) -> tuple[object, bool]:
    """Return the JSON in a body, also from a list of one, and whether it differs from the body; None if it is not JSON.

    Bytes that are not UTF-8 are replaced: they are no reason to pay for the answer again.
    """
    is_changed = False
    try:
        try:
            body: object = json.loads(content)
        except UnicodeDecodeError:
            body, is_changed = json.loads(content.decode("utf-8", "replace")), True
    except (ValueError, RecursionError):
        return None, False
    if isinstance(body, list) and len(entries := cast("list[object]", body)) == 1:
        return entries[0], True
    return cast("object", body), is_changed


def _unusable(content: bytes, *, is_json: bool) -> Json:
    """Return the error for a body that is not a JSON object."""
    text = content.decode("utf-8", "replace")
    if content.startswith(_EVENTS):
        return _error(f"the reply is a stream of events, which was not requested: {text[:_LONGEST_QUOTE]}")
    what = "the reply is not a JSON object" if is_json else "the reply is not complete, valid JSON"
    return _error(f"{what}: {text[:_LONGEST_QUOTE]}")


def _error_in(body: Json, field: str | None) -> Json | None:
    """Return the error that a reply contains instead of an answer; None if there is none.

    Args:
        body: The reply.
        field: Name of the field that contains the answer; None if the request was not for an answer.
    """
    choices: object = body.get("choices")
    if isinstance(choices, list) and choices and field in ("choices", None):
        return _error_of_choice(body, cast("list[object]", choices)[0])
    if any(body.get(name) for name in ((field, "promptFeedback") if field else _ANSWERS)):
        return None
    is_error = body.get("object") == "error" or body.get("type") == "error" or body.get("success") is False
    if is_error or any(_is_error(body.get(name)) for name in _ERRORS):
        return body
    if "choices" in body and field in ("choices", None):
        return _error("the reply has no choices")
    if field is None or field in body:
        return None
    if field == "candidates" and any(isinstance(body.get(name), dict) for name in _BILLS):
        return None  # Gemini omits empty fields
    if read_json(body).text:
        return body
    names = ", ".join(list(body)[:8])
    return _error(f"the reply has no {field}: " + (f"it has {names[:_LONGEST_QUOTE]}" if names else "it is {}"))


def _error_of_choice(body: Json, choice: object) -> Json | None:
    if not isinstance(choice, dict):
        return _error("the reply has no message")
    fields = cast("Json", choice)
    error: object = fields.get("error") or body.get("error")
    reason: object = fields.get("finish_reason")
    if reason in _BROKEN_OFF or (error and not _has_content(fields)):
        return {"error": error} if error else _error(f"the provider broke off the answer (finish_reason: {reason})")
    if not isinstance(fields.get("message"), dict):
        return _error("the reply has no message")
    return None


def _has_content(choice: Json) -> bool:
    message: object = choice.get("message")
    return isinstance(message, dict) and any(cast("Json", message).get(part) for part in ("content", "tool_calls"))


def _is_error(value: Any) -> bool:
    if isinstance(value, dict) and "status_code" in value:  # MiniMax's `base_resp`: 0 is no error
        return bool(cast("Json", value)["status_code"])
    return bool(value)  # pyright: ignore[reportUnknownArgumentType]  a value of any type


def _error(message: str) -> Json:
    return {"error": {"message": message, "type": "unusable_reply", "param": None, "code": None}}


def _status_of(error: Json) -> int:
    """Return the HTTP status that corresponds to an error."""
    body = read_json(error)
    numbers = (int(code) for code in body.codes if code.isdecimal())
    status = next((number for number in numbers if 400 <= number < 600), None)
    if status is not None:
        return status
    if category := category_of_codes(body):
        return _STATUSES[category]
    if says_no_credit(body):
        return 402
    if says_model_is_missing(body):
        return 404
    return status_in_words(body.text) or _BAD_GATEWAY


def _replaced(
    response: httpx2.Response, status: int, body: Json | bytes, kind: str = "application/json"
) -> httpx2.Response:
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_PASSED_ON]
    headers.append(("content-type", kind))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    meant = httpx2.Response(
        status, headers=headers, content=content, request=response.request, extensions=response.extensions
    )
    with suppress(RuntimeError):  # not available if the stream was read by other code
        meant.elapsed = response.elapsed
    return meant
