"""Codes and messages of a provider's error, extracted from response bodies of any shape.

Bodies differ: `{"error": {"message", "type", "code"}}` (OpenAI), `{"type": "error", "error": {...}}` (Anthropic),
`{"code", "error"}` (xAI), `{"detail": ...}` (FastAPI), `{"Error": {"Code"}}` (Bedrock), `{"error": {"metadata":
{"raw": "<JSON>"}}}` (OpenRouter), or a page of HTML from something between. Only fields that name a code or a message
are read: a body may also quote the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

_CODES = frozenset({"code", "type", "status", "reason", "error_type", "error_code", "errorcode", "__type", "quotaid"})
_MESSAGES = frozenset(
    {"message", "error", "detail", "details", "msg", "error_msg", "error_message", "status_msg"}
    | {"error_description", "errormessage", "faultstring", "title"}  # RFC 6749, AWS, Apigee, RFC 9457
)
_WITHIN = frozenset(
    {"error", "errors", "detail", "details", "metadata", "raw", "innererror", "base_resp", "violations", "headers"}
    | {"fault"}
)
_FLAGGED = frozenset({"flagged_input", "content_filter_result", "content_filter_results"})
_RESETS = "x-ratelimit-reset"
_LONGEST_BODY = 20_000
_DEPTH = 12
_PAGE = re.compile(r"\s*<[!?a-z]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Content of an error's response body.

    Attributes:
        codes: Machine-readable codes, types and reasons, in lower case.
        text: All messages.
        is_page: Whether the body is an HTML page, which no provider's API sends.
        is_flagged: Whether the body contains the result of a moderation.
        resets_at: Time at which a limit resets, as written in the body; empty if missing.
    """

    codes: frozenset[str] = frozenset()
    text: str = ""
    is_page: bool = False
    is_flagged: bool = False
    resets_at: str = ""


def read_error(error: BaseException) -> ErrorBody:
    """Return the error body that an exception of any provider's client contains."""
    facts: dict[str, object] = vars(error)  # not getattr: some libraries have deprecated properties, which warn
    found = list[tuple[str, object]]()
    for name in ("code", "type", "status", "reason", "provider_error_code", "provider_error_type"):
        found.append(("code", facts.get(name)))
    bodies = [facts.get("body"), facts.get("details"), *_of_response(facts.get("response"))]
    for body in bodies:
        found += _walk(body, _DEPTH)
    message = str(facts.get("message") or "")
    # pydantic-ai's message names the model, whatever the error is.
    if not any(name == "message" for name, _ in found) and not message.startswith("status_code: "):
        found.append(("message", message))
    return _put_together(found)


def read_text(message: str) -> ErrorBody:
    """Return the error body of a message without further information; such messages often quote the body."""
    quoted = re.search(r"\{.*\}", message, re.DOTALL)
    within = _walk(quoted[0], _DEPTH) if quoted else ()
    return _put_together([("message", message), *within])


def read_json(body: object) -> ErrorBody:
    """Return the error body of parsed JSON."""
    return _put_together(list(_walk(body, _DEPTH)))


def _put_together(found: list[tuple[str, object]]) -> ErrorBody:
    codes = (str(value).rpartition("#")[2].lower() for name, value in found if name == "code" and _is_code(value))
    texts = dict.fromkeys(value for name, value in found if name == "message" and isinstance(value, str))
    return ErrorBody(
        codes=frozenset(codes),
        text=" ".join(texts)[:_LONGEST_BODY],
        is_page=any(map(_PAGE.match, texts)),
        is_flagged=any(name == "flagged" for name, _ in found),
        resets_at=next((str(value) for name, value in found if name == "resets"), ""),
    )


def _is_code(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and 0 < len(str(value)) <= 100


def _of_response(response: object) -> Iterator[object]:
    """Yield the body of a client's response object; botocore's is a dict."""
    if isinstance(response, Mapping):
        yield cast("Mapping[str, object]", response)
        return
    try:
        text: object = getattr(response, "text", None)
    except Exception:  # a stream that was not read
        return
    if isinstance(text, str):
        yield text


def _walk(value: object, depth: int) -> Iterator[tuple[str, object]]:
    """Yield codes and messages with their kind."""
    if depth == 0:
        return
    if isinstance(value, str):
        parsed = _parsed(value)
        if parsed is None:
            yield "message", value
        else:
            yield from _walk(parsed, depth - 1)
    elif isinstance(value, Mapping):
        yield from _walk_object(cast("Mapping[Any, object]", value), depth)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for each in cast("Sequence[object]", value)[:20]:
            yield from _walk(each, depth - 1)


def _walk_object(body: Mapping[Any, object], depth: int) -> Iterator[tuple[str, object]]:
    for key, value in body.items():
        name = str(key).lower()
        if name in _FLAGGED and value:
            yield "flagged", True
        elif name == _RESETS:
            yield "resets", value
        elif isinstance(value, str) and name in _MESSAGES | _WITHIN:
            yield from _walk(value, depth - 1)
        elif name in _CODES and _is_code(value):
            yield "code", value
        elif name in _WITHIN and not isinstance(value, str):
            yield from _walk(value, depth - 1)


def _parsed(text: str) -> object:
    """Return the JSON object or array in a text, or None."""
    if text.lstrip()[:1] not in ("{", "[") or len(text) > _LONGEST_BODY:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
