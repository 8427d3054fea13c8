"""Facts that only the text of an error contains, because its status and codes are ambiguous.

Each pattern matches a complete phrase, so that a message that only mentions a model, a limit or a policy does not
match. Typographic quotes are treated as plain ones.
"""

from __future__ import annotations

import re

from .error_bodies import ErrorBody

_LONGEST_MESSAGE = 1000
"""Longest message that is searched: longer ones quote something, such as the prompt."""


def _any_of(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_NAME = r"(?:[`'\"]?[\w./:@-]+[`'\"]?,? )?"  # a model's
_IS = r"(?:has been|have been|was|is|are|were) (?:now |already |been )?"
_GONE = r"(?:decommissioned|deprecated|retired|removed|discontinued|disabled|shut ?down|sunset|unknown|invalid)"
_NOT_THERE = (
    r"not (?:a )?(?:found|available|supported|valid|recognized|known|exist\w*|deployed|accessible|enabled|allowed)"
)
_NO_LONGER = r"no longer (?:available|supported|served|offered|hosted|accessible|exist\w*)"
_MODEL = _any_of(
    rf"\b(?:model|deployment|engine)s?\b(?: id| name)?:? {_NAME}{_IS}(?:{_GONE}|{_NOT_THERE}|{_NO_LONGER})",
    rf"\b(?:model|deployment|engine)s?\b(?: id| name)?:? {_NAME}"
    r"(?:(?:does not|doesn't|do not|did not|not) exist|(?:could not|cannot|can't) be found|not found|no longer exists)",
    r"\b(?:not a valid|invalid|unknown|unrecognized|unsupported|no such|nonexistent) model\b"
    r"(?! (?:output|response|param|setting|argument|config|behaviou?r))",
    r"\b(?:model|deployment) for this resource does not exist\b",
    r"\bno (?:allowed |available )?(?:endpoints?|providers?) (?:are |were )?(?:found|available)\b",
    r"\b(?:does not|don't|doesn't) have access to (?:the )?model\b",
    r"\b(?:unable to|cannot|can't) access (?:non-serverless )?model\b",
    r"\bmodels/[\w.-]+ is not found\b",
    r"\bprovided model identifier is invalid\b",
    r"\breached the end of (?:its )?life\b",
    r"\bfailed to load model\b",  # LM Studio
    r"\bfunction (?:id )?'?[\w-]{36}'?(?: version '?[\w-]{36}'?)?: not found\b",  # NVIDIA's name of a model
    r"\bnot found the model\b",
    r"模型不存在",
)

_CREDIT = _any_of(
    r"\bcredit balance is (?:too low|insufficient)\b",
    r"\b(?:insufficient|not enough|no|out of|any)(?: account| available| remaining)? (?:balance|credits?|funds)\b",
    r"\b(?:used|spent|consumed) (?:up )?(?:all|your)(?: of)?(?: your)?(?: available| monthly| included)* credits\b",
    r"\b(?:spend|spending|billing) (?:limit|cap) (?:was |has been |is )?(?:reached|exceeded|hit)\b",
    r"\b(?:reached|exceeded|hit) (?:its|your|the) (?:monthly )?(?:spend|spending|billing) (?:limit|cap)\b",
    r"\brequires? more credits\b",
    r"\baccount (?:is |has been )?suspended\b",
    r"\bexceeded your monthly included credits\b",
    r"\benable billing\b",
    r"\bpayment (?:is )?required\b",
    r"\bspecified api usage limits\b",
    r"\bkey (?:total )?limit exceeded\b",  # OpenRouter, with 403: what this key may spend
)

_THE_CONTENT = r"(?:content|prompt|input|message|text|request|query|conversation)s?"
_BAD = (
    r"(?:flagged|violat\w+|moderat\w+|unsafe|harmful|inappropriate|prohibited|sensitive|disallowed|objectionable"
    r"|risk detected)"
)
_RULES = r"(?:usage|content|safety|acceptable[- ]use|responsible ai|moderation)"
_CONTENT = _any_of(
    rf"\b{_THE_CONTENT}\b.{{0,60}}\b{_BAD}\b",
    rf"\b{_BAD}\b.{{0,40}}\b{_THE_CONTENT}\b",
    rf"\b{_RULES}[ -](?:management |filtering )?(?:guidelines?|polic(?:y|ies)|filters?|system|checks?)\b",
    r"\bSAFETY_CHECK_TYPE_\w+",
    r"\bblocked by (?:\w+ ){0,3}(?:guardrails?|moderation|safety)\b",
    rf"\b(?:blocked|rejected|refused|denied)\b.{{0,40}}\b(?:policy|guardrails?)\b.{{0,20}}\b{_THE_CONTENT}\b",
)

_PLACE = r"(?:country|countries|region|territory|location)"
_REGION = _any_of(
    rf"\b{_PLACE}\b.{{0,40}}\b(?:not |un)(?:supported|available|allowed)\b",
    rf"\b(?:not |un)(?:supported|available|allowed)\b.{{0,40}}\b{_PLACE}\b",
)
_ACCESS = _any_of(
    r"\b(?:api|access|secret|invalid|missing|expired)[ _-]?(?:key|token)s?\b",
    r"\bcredentials?\b|\bauthenticat\w+|\bauthoriz\w+|\bunauthorized\b|\bpermissions?\b|\bsubscri\w+",
    r"\baccess (?:to .{0,60} )?(?:is |was |has been )?(?:denied|forbidden|restricted|blocked|disabled)\b",
    r"\b(?:do|does)(?: not|n't) have access\b",
    r"\byour (?:plan|account|team|organi[sz]ation|project)\b",
)

_LIMIT = re.compile(r"\blimit\b[^\d]{0,20}([\d,_]+)", re.IGNORECASE)
_REQUESTED = re.compile(r"\brequested\b[^\d]{0,20}([\d,_]+)", re.IGNORECASE)
_TOO_LARGE = _any_of(r"\b(?:request|prompt|input|message)s? (?:is |was )?too (?:large|long)\b")

_DAY = _any_of(
    r"\b(?:per|a|each|every)[- _]?(?:day|month|week)\b",
    r"-per-day\b|\bPer(?:Day|Month)|ByDay\b|/ ?(?:day|month)\b|\bper 86,?400 ?s",
    r"\b(?:TPD|RPD|ASD)\b",
    r"\b(?:daily|monthly|weekly)\b.{0,40}\b(?:limit|quota|allocation|allowance|cap|usage)\b",
)
_MINUTE = _any_of(r"\bper[- ](?:min(?:ute)?|sec(?:ond)?|hour)s?\b|\b(?:TPM|RPM|RPS)\b|PerMinute|ByMinute")


def says_model_is_missing(body: ErrorBody) -> bool:
    """Return whether the error says that the model or its deployment does not exist, or no longer exists."""
    return not body.is_page and len(body.text) <= _LONGEST_MESSAGE and _found(_MODEL, body)


def says_no_credit(body: ErrorBody) -> bool:
    """Return whether the error says that the account has no credit."""
    return len(body.text) <= _LONGEST_MESSAGE and _found(_CREDIT, body)


def says_content(body: ErrorBody) -> bool:
    """Return whether the error says that the content of the request violates a policy."""
    return body.is_flagged or (not body.is_page and _found(_CONTENT, body))


def says_region(body: ErrorBody) -> bool:
    """Return whether the error says that the caller's region is not supported."""
    return _found(_REGION, body)


def says_access(body: ErrorBody) -> bool:
    """Return whether the error is about the key, the account or the caller's region."""
    return not body.is_page and (_found(_ACCESS, body) or says_region(body))


def says_too_large(body: ErrorBody) -> bool:
    """Return whether the error says that a single request exceeds the limit, so waiting does not help."""
    limit, requested = _LIMIT.search(body.text), _REQUESTED.search(body.text)
    if limit and requested:
        return _number(requested) > _number(limit)
    return _found(_TOO_LARGE, body)


def says_day(body: ErrorBody) -> bool:
    """Return whether the error is about a limit per day or longer; a text that also names a minute is about that."""
    if any(
        "perday" in code for code in body.codes
    ):  # Google's `quotaId`; the body may contain limits per minute as well
        return True
    return _found(_DAY, body) and not _found(_MINUTE, body)


def _found(phrases: re.Pattern[str], body: ErrorBody) -> bool:
    return phrases.search(body.text[:_LONGEST_MESSAGE].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")) is not None


def _number(found: re.Match[str]) -> int:
    return int(re.sub(r"\D", "", found[1]) or 0)
