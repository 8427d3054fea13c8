"""Normalization of replies with status 200: errors inside a reply become errors, incomplete completions are repaired.

Some gateways send a rate limit or a failure with status 200: `{"error": {"code": 429}}`, `choices[0].finish_reason`
"error", no choices, or an HTML page. Compatible servers omit fields of a completion that clients require. Sources:
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

from .lenient_completions import complete

Json = dict[str, Any]

_ANSWERS = ("content", "candidates", "output", "promptFeedback", "data", "embeddings", "results")
_ERRORS = ("error", "errors", "error_msg", "error_code", "base_resp", "detail")
_BAD_GATEWAY = 502
_STATUSES = {
    "quota_exhausted": 402,
    "content_filter": 400,
    "model_not_found": 404,
    "auth": 401,
    "rate_limit": 429,
    "server_error": _BAD_GATEWAY,
}
_NOT_PASSED_ON = ("content-encoding", "content-length", "transfer-encoding")


def normalized_reply(response: httpx2.Response) -> httpx2.Response:
    """Return a reply unchanged, as the error that it contains, or as a repaired completion."""
    if response.status_code != 200 or response.request.method != "POST":
        return response
    content, kind = response.content, response.headers.get("content-type", "")
    if "event-stream" in kind or "octet-stream" in kind or "eventstream" in kind:
        return response
    if not content.strip():
        return _replaced(response, _BAD_GATEWAY, _error("the reply is empty"))
    if content.lstrip()[:1] == b"<":
        return _replaced(response, _BAD_GATEWAY, content)
    try:
        body: object = json.loads(content)
    except ValueError:
        return response
    if not isinstance(body, dict):
        return response
    reply = cast("Json", body)
    if error := _error_in(reply):
        return _replaced(response, _status_of(error), error)
    return _replaced(response, 200, reply) if complete(reply) else response


def _error_in(body: Json) -> Json | None:
    """Return the error that a reply contains instead of an answer; None if there is none."""
    choices: object = body.get("choices")
    if isinstance(choices, list) and choices:
        return _error_of_choice(body, cast("list[object]", choices)[0])
    if any(body.get(name) for name in _ANSWERS if name in body):
        return None
    is_error = body.get("object") == "error" or body.get("type") == "error" or body.get("success") is False
    if is_error or any(_is_error(body.get(name)) for name in _ERRORS):
        return body
    return _error("the reply has no choices") if "choices" in body else None


def _error_of_choice(body: Json, choice: object) -> Json | None:
    if not isinstance(choice, dict):
        return _error("the reply has no message")
    fields = cast("Json", choice)
    error: object = fields.get("error") or body.get("error")
    if fields.get("finish_reason") == "error" or (error and not _has_content(fields)):
        return {"error": error} if error else _error("the provider broke off the answer (finish_reason: error)")
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


def _replaced(response: httpx2.Response, status: int, body: Json | bytes) -> httpx2.Response:
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _NOT_PASSED_ON]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    meant = httpx2.Response(
        status, headers=headers, content=content, request=response.request, extensions=response.extensions
    )
    with suppress(RuntimeError):  # not available if the stream was read by other code
        meant.elapsed = response.elapsed
    return meant
