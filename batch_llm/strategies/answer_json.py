"""Extraction of the JSON object that is a model's answer from the text around it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar, cast

T = TypeVar("T")
Fit = Callable[[str], T]
"""Function that turns the JSON of an object into the output, or raises `ValueError` if it does not match."""

_TAGS = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
_THOUGHTS = re.compile(rf"<({_TAGS})>.*?(?:</\1>|\Z)", flags=re.DOTALL | re.IGNORECASE)
# Some templates put the opening tag into the prompt, so that an answer has the closing one alone.
_OPENED_BEFORE = re.compile(rf"\A.*</(?:{_TAGS})>", flags=re.DOTALL | re.IGNORECASE)
_LANDMARK = re.compile(r"\{|`{3,}|~{3,}")
_OBJECT_BEGINS = re.compile(r'\{\s*["}]')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', flags=re.DOTALL)
_MARKS = "\ufeff\u200b\u2060 \t\r\n"


_LONGEST = 2_000_000
"""Longest text that is searched for objects, in characters: the search is pure Python, so it is slow."""


@dataclass(frozen=True, slots=True)
class _Fitting(Generic[T]):
    """Object that matches: its JSON with sorted keys, its output, and the number of its fenced block (0: no block)."""

    json: str
    output: T
    block: int


def read_json(text: str) -> Any:
    """Return the value of strict JSON.

    Python's own parser accepts NaN and Infinity, which are not JSON, turns 1e400 into infinity, and uses the last of
    several equal keys. Each of these would change the model's answer without an error.

    Raises:
        ValueError: The text is not JSON, or contains a number that no float can represent, a key with two values, an
            unpaired surrogate, or too many levels.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("The JSON has too many levels") from None
    if "\\u" in text:
        _check_characters(value)
    return value


def read_object(text: str, fit: Fit[T], properties: Container[str] = ()) -> T:
    """Return the output for the only JSON object in a text that matches.

    The object may be the whole text, in a fenced block, within other text, in a list of one element, in a string of
    JSON, or the value of a single other key. Reasoning in tags such as `<think>` is ignored. If several fenced blocks
    match, the last one is the answer; if several different objects match otherwise, none is chosen.

    Args:
        text: The answer.
        fit: Function that turns the JSON of an object into the output.
        properties: Names of the object's own keys, so that none of them is treated as a wrapper.

    Raises:
        ValueError: No object matches, or several do; the message is written for the model.
    """
    text = text.strip(_MARKS)
    try:
        value = read_json(text)
    except json.JSONDecodeError:
        return _search(text, fit, properties)
    if isinstance(value, str):  # JSON as a string of JSON
        return _search(value, fit, properties)
    if isinstance(value, list) and len(cast("list[Any]", value)) == 1 and isinstance(value[0], dict):
        return fit(json.dumps(value[0], ensure_ascii=False))
    return _unwrapped(text, value, fit, properties)


def _search(text: str, fit: Fit[T], properties: Container[str]) -> T:
    fitting: list[_Fitting[T]] = []
    reason: ValueError | None = None
    for found, block in _objects(_without_thoughts(text)) if len(text) <= _LONGEST else ():
        try:
            value = read_json(found)
            output = _unwrapped(found, value, fit, properties)
        except ValueError as error:
            reason = error
        else:
            fitting.append(_Fitting(json.dumps(value, sort_keys=True), output, block))
    if not fitting:
        if reason is not None:
            raise reason
        return fit(text)  # raises with the reason
    if all(one.block for one in fitting):  # drafts, followed by the final answer
        fitting = [one for one in fitting if one.block == fitting[-1].block]
    if len(different := {one.json for one in fitting}) > 1:
        raise ValueError(f"There are {len(different)} different JSON objects in the answer; return exactly one")
    return fitting[-1].output


def _unwrapped(text: str, value: Any, fit: Fit[T], properties: Container[str]) -> T:
    """Return the output of an object, or of the object that is its only value, under a key that the model invented."""
    try:
        return fit(text)
    except ValueError:
        wrapped = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        key, inner = next(iter(wrapped.items())) if len(wrapped) == 1 else ("", None)
        if not isinstance(inner, dict) or key in properties:
            raise
        try:
            return fit(json.dumps(inner, ensure_ascii=False))
        except ValueError:
            pass
        raise


def _without_thoughts(text: str) -> str:
    text = _THOUGHTS.sub("", text)
    return _OPENED_BEFORE.sub("", text)


def _objects(text: str) -> Iterator[tuple[str, int]]:
    """Yield the outermost objects of a text in order, each with the number of its fenced block (0: no block)."""
    decoder = json.JSONDecoder()
    place = block = blocks = 0
    fence = ""
    while landmark := _LANDMARK.search(text, place):
        place = landmark.end()
        if landmark[0] != "{":
            if not fence:
                fence, blocks = landmark[0][0], blocks + 1
                block = blocks
            elif landmark[0][0] == fence:
                fence, block = "", 0
            continue
        start = landmark.start()
        try:
            _, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            if _OBJECT_BEGINS.match(text, start):
                # A malformed object: an object inside it that happens to match is not the answer.
                place = _end_of_broken(text, start)
            continue
        yield text[start:place], block


def _end_of_broken(text: str, start: int) -> int:
    """Return the position at which the braces of a malformed object are balanced, or the end of the text."""
    depth, place = 0, start
    while place < len(text):
        if text[place] == '"' and (string := _STRING.match(text, place)):
            place = string.end()
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 1
        if depth == 0:
            return place
    return len(text)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value; return a number, or null where the schema allows it")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits[:40]} is too large for a number; the largest is about 1.8e308")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if json.dumps(found[key]) != json.dumps(value):
                raise ValueError(f"The key {key[:40]!r} occurs twice, with different values; return it once")
    return found


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("A string in the JSON has half a surrogate pair, which is not a character") from None
