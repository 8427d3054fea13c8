"""The provider's own message in the text of an error, which client libraries put after names and numbers."""

from __future__ import annotations

import ast
import re

from batch_llm.classifiers.error_bodies import read_json

_HTTP_ERROR = re.compile(
    r"[\w.]+: (?:status_code: |Error code: )?(?P<status>[1-5]\d\d)\b[^{]*(?P<body>\{.*)", re.DOTALL
)
_PLAIN_BODY = re.compile(
    r"[\w.]+: status_code: (?P<status>\d{3}), model_name: [^,]*, body: (?!None$)(?P<body>[^{\s].*)", re.DOTALL
)
_BODY = re.compile(r"\{.*\}", re.DOTALL)
_MESSAGE = re.compile(r"""["']message["']: (?:"(?P<double>[^"]+)|'(?P<single>[^']+))""")


def provider_first(error: str) -> str:
    """Return the text of an error, with the status and the provider's message first; other texts are unchanged.

    The rest of the text follows only if the message cannot be separated from it.

    Example:
        >>> provider_first("ModelHTTPError: status_code: 500, model_name: m, body: {'message': 'overloaded'}")
        '500: overloaded'
    """
    if plain := _PLAIN_BODY.fullmatch(error):
        return f"{plain['status']}: {plain['body']}"
    found = _HTTP_ERROR.match(error)
    if found is None:
        return error
    message = _message_in(found["body"])
    return f"{found['status']}: {message}" if message else error


def _message_in(body: str) -> str:
    whole = _BODY.match(body)
    try:
        message = read_json(ast.literal_eval(whole[0])).text if whole else ""
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # a body that is cut off, or not a literal
        message = ""
    if not message and (quoted := _MESSAGE.search(body)):
        message = quoted["double"] or quoted["single"]
    return message.strip()
