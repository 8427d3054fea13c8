"""Validation of values from users' code: an invalid value fails its item and never reaches the engine.

| value | checked by |
|---|---|
| an item, its id | `check_is_item`, where it is added |
| a prompt, also one that a middleware made | `ItemRunner`, before the first attempt |
| what a strategy returned, or billed with `CallFailed` | `check_answer`, `failure_in`, `counts_in` |
| what a classifier returned | `check_info` |
| what `after_process` returned | `check_result` |
| the text of an error | `in_words` |
"""

from __future__ import annotations

import reprlib
from typing import Any, cast

from batch_llm.classifiers.network_causes import network_cause
from batch_llm.errors import BatchLLMError, CallFailed, ErrorInfo
from batch_llm.items import AnyResult, LLMWorkItem, check_item_id

MOST_TOKENS = 10**15
"""Largest token count of one call that is accepted, because sums and databases have to store it."""

LONGEST_ERROR = 4000
"""Maximum length of an error text, in characters."""

_CUT_WITHIN = 200
"""A text is cut between two words if possible: half a key would not be recognised as one."""

_NESTED = 10


class InvalidValue(BatchLLMError, TypeError):
    """Invalid value from users' code: a bug there, independent of the classifier."""


class Crashed(BatchLLMError):
    """Users' code raised something that is not an `Exception`, such as the panic of an extension module."""


PROGRAMMING = ErrorInfo(is_retryable=False, category="programming")


def shown(value: object) -> str:
    """Return a value, cut to a readable length, and its type; never raise."""
    kind = type(value).__name__
    try:
        return f"{reprlib.repr(value):.200} ({kind})"
    except Exception:
        return f"a {kind}"


def check_is_item(item: object) -> None:
    """Check that a value is a work item; raise ValueError if not."""
    if not isinstance(item, LLMWorkItem):
        raise ValueError(f"{item!r:.200} is not a work item: wrap it in LLMWorkItem(item_id=..., strategy=...)")
    check_item_id(item.item_id)  # pyright: ignore[reportUnknownMemberType]  it may have been modified since its construction


def check_answer(answer: Any, strategy: object) -> None:
    """Check that `execute` returned an output and its tokens; raise InvalidValue if not."""
    pair = cast("tuple[Any, ...]", answer)
    if not isinstance(answer, tuple) or len(pair) != 2 or not isinstance(pair[1], dict):
        name = type(strategy).__name__
        raise InvalidValue(f"{name}.execute returned {shown(pair)}; it must return a tuple of output and dict")


def failure_in(error: Exception) -> tuple[Exception, dict[str, int]]:
    """Return the error and the billed tokens of a failed call, extracted from `CallFailed` if necessary."""
    if not isinstance(error, CallFailed):
        return error, {}
    usage: object = getattr(error, "token_usage", None)
    cause: object = error
    for _ in range(_NESTED):
        if not isinstance(cause, CallFailed):
            break
        cause = getattr(cause, "error", None)
    if not isinstance(cause, Exception) or isinstance(cause, CallFailed):
        cause = InvalidValue(f"CallFailed.error is {shown(cause)}; it must be an exception")
    if not isinstance(usage, dict):
        return InvalidValue(f"CallFailed.token_usage is {shown(usage)}; it must be a dict of counts"), {}
    return cause, usage  # pyright: ignore[reportUnknownVariableType]


def as_exception(error: BaseException) -> Exception:
    """Return the error itself, or a `Crashed` for something that is not an `Exception`."""
    if isinstance(error, Exception):
        return error
    crashed = Crashed(in_words(error))
    crashed.__cause__ = error
    return crashed


def is_count(value: object) -> bool:
    """Return whether a value is a valid number of tokens."""
    return type(value) is int and 0 <= value <= MOST_TOKENS


def are_counts(usage: dict[str, int]) -> bool:
    """Return whether all keys and values of `usage` are valid; fast, as it checks every answer."""
    for key, count in usage.items():
        if type(count) is not int or count < 0 or count > MOST_TOKENS or type(key) is not str:
            return False
    return True


def counts_in(usage: dict[str, int]) -> dict[str, int]:
    """Return `usage` without invalid counts, which would break sums."""
    return {key: count for key, count in usage.items() if is_count(count) and isinstance(key, str)}  # pyright: ignore[reportUnnecessaryIsInstance]


def check_info(info: Any, where: str) -> None:
    """Check the value that a classifier returned; raise InvalidValue if it is not a valid `ErrorInfo`."""
    if not isinstance(info, ErrorInfo):
        raise InvalidValue(f"{where} returned {shown(info)}; it must be an ErrorInfo")
    for name in ("is_retryable", "is_rate_limit", "never_sent"):
        _check(where, info, name, bool, "True or False")
    _check(where, info, "category", str, "a string")
    for name in ("suggested_wait", "resets_in"):
        if getattr(info, name, None) is not None:
            _check(where, info, name, (int, float), "a number of seconds, or None")


def check_result(result: AnyResult, where: str) -> None:
    """Check the result that a middleware returned, and shorten its error text; raise InvalidValue if it is invalid."""
    is_plain = type(result.success) is bool and type(result.token_usage) is dict and type(result.attempts) is int
    has_no_more = result.error is result.error_info is result.gemini_safety_ratings is result.finish_reason is None
    if is_plain and has_no_more and are_counts(result.token_usage):
        return  # the usual case; all others are checked below
    _check(where, result, "success", bool, "True or False")
    _check(where, result, "token_usage", dict, "a dict of counts")
    if len(counts_in(result.token_usage)) != len(result.token_usage):
        raise InvalidValue(f"{where} gave the token_usage {shown(result.token_usage)}; it must be a dict of counts")
    if result.error is not None:
        _check(where, result, "error", str, "a string, or None")
        if len(result.error) > LONGEST_ERROR:
            result.error = shortened(result.error)
    if result.error_info is not None:
        _check(where, result, "error_info", ErrorInfo, "an ErrorInfo, or None")
        check_info(result.error_info, f"{where}'s error_info")
    if result.gemini_safety_ratings is not None:
        _check(where, result, "gemini_safety_ratings", dict, "a dict, or None")
    if result.finish_reason is not None:
        _check(where, result, "finish_reason", str, "a string, or None")
    _check(where, result, "attempts", int, "an integer")


def _check(where: str, owner: object, name: str, kind: type | tuple[type, ...], rule: str) -> None:
    value: object = getattr(owner, name, None)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidValue(f"{where} gave the {name} {shown(value)}; it must be {rule}")


def in_words(error: BaseException, info: ErrorInfo | None = None) -> str:
    """Return the type and text of `error`, shortened; for a connection error, with its host and cause."""
    try:
        text = str(error)
    except Exception:  # an SDK's exception with a broken `__str__` must not end the run
        text = ""
    name = "TypeError" if isinstance(error, InvalidValue) else _public_name(error)
    said = shortened(f"{name}: {text}" if text else name)
    if info is not None and (info.category == "connection" or info.never_sent) and (cause := network_cause(error)):
        return shortened(f"{said.rstrip('. ')}: {cause}")
    return said


def _public_name(error: BaseException) -> str:
    """Return the name of an exception's class; for a private class, of its nearest public base class."""
    return next(cls.__name__ for cls in type(error).__mro__ if not cls.__name__.startswith("_"))


def shortened(text: str) -> str:
    """Return a text, shortened to `LONGEST_ERROR` characters."""
    if len(text) <= LONGEST_ERROR:
        return text
    kept = text[:LONGEST_ERROR]
    words = kept[-_CUT_WITHIN:].rsplit(None, 1)
    if len(words) > 1:
        kept = kept[: -len(words[-1])].rstrip()
    return f"{kept} ... ({len(text):,} characters)"
