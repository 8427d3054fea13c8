"""Strategy that calls Gemini directly through google-genai."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from batch_llm.errors import AnswerTruncated, CallFailed, ContentFiltered

from .base import LLMCallStrategy, TokenUsage, TOutput
from .billing import billed, usage_of
from .blank_text import is_blank
from .finish_reasons import truncation_message

if TYPE_CHECKING:
    from google import genai
    from google.genai.types import (
        Candidate,
        Content,
        GenerateContentConfig,
        GenerateContentResponse,
        GenerateContentResponseUsageMetadata,
    )

# https://ai.google.dev/api/generate-content#FinishReason
_BLOCKED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)

_ENDINGS = {"STOP": "stop", "MAX_TOKENS": "length", "MALFORMED_FUNCTION_CALL": "error", "OTHER": "error"}


class GeminiStrategy(LLMCallStrategy[TOutput]):
    """Strategy that makes one Gemini request per attempt and passes the response to `response_parser`.

    The parser receives the complete response, including `finish_reason`: it decides whether to accept an answer that
    was cut off at the token limit. A `ValueError` from the parser (including `pydantic.ValidationError` and
    `JSONDecodeError`) is a `validation` failure, which is retried unless the answer was cut off at the token limit. An
    empty answer, or one of invisible characters only, is a `validation` failure too; the parser is not called.
    A blocked prompt or answer is a `content_filter` failure. Tokens are counted in every case.

    google-genai resends a request after a broken connection, unless the client was created with
    `http_options=HttpOptions(retry_options=HttpRetryOptions(attempts=1))`.

    Args:
        model: Model name, such as "gemini-3.8-flash".
        client: Client to use; the strategy does not close it.
        response_parser: Function that turns a `GenerateContentResponse` into the output.
        config: Temperature, response schema, system instruction, ...

    Example:
        client = genai.Client()
        strategy = GeminiStrategy("gemini-3.8-flash", client, response_parser=lambda response: response.text)
    """

    def __init__(
        self,
        model: str,
        client: genai.Client,
        response_parser: Callable[[Any], TOutput],
        config: GenerateContentConfig | None = None,
    ) -> None:
        self.model = model
        self.client = client
        self.response_parser = response_parser
        self.config = config

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Make one request; `attempt` and `timeout` are not used."""
        response = await generate(self.client, self.model, prompt, self.config)
        config: Any = self.config or {}
        instruction: Any = dict(config).get("system_instruction")  # a config may be a dict, as the SDK takes it
        return read_response(response, self.response_parser, lambda: f"{instruction or ''}{prompt}")


def generate(
    client: genai.Client, model: str, contents: str | list[Content], config: GenerateContentConfig | None
) -> Awaitable[GenerateContentResponse]:
    """Return an awaitable that makes one `generate_content` request."""
    models: Any = client.aio.models  # its signature names types of Pillow, which need not be installed
    return models.generate_content(model=model, contents=contents, config=config)


def read_response(
    response: GenerateContentResponse, parse: Callable[[Any], TOutput], sent: Callable[[], str] = str
) -> tuple[TOutput, dict[str, int]]:
    """Return the parsed answer and its token usage.

    Args:
        response: The response.
        parse: Function that turns the response into the output.
        sent: Function that returns the text of the request, to estimate its tokens if Gemini reports none.

    Raises:
        CallFailed: The prompt or the answer was blocked, there is no answer, or `parse` raised; contains the tokens.
    """
    candidate = response.candidates[0] if response.candidates else None
    usage = _usage(response, candidate, sent)
    usage.finish_reason = _finish_reason(response, candidate)
    try:
        _check(response, candidate)
        return parse(response), usage
    except ValueError as error:
        if usage.finish_reason != "length":
            raise CallFailed(error, usage) from error
        words = truncation_message(usage.get("output_tokens", 0), None, begun=bool(_texts(candidate)))
        raise CallFailed(AnswerTruncated(words), usage) from error
    except Exception as error:
        raise CallFailed(error, usage) from error


def _finish_reason(response: GenerateContentResponse, candidate: Candidate | None) -> str | None:
    """Return the finish reason of the answer, under the names that all strategies share."""
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        return "content_filter"
    reason = candidate and candidate.finish_reason
    if reason in _BLOCKED:
        return "content_filter"
    return _ENDINGS.get(str(reason.value)) if reason else None


def _texts(candidate: Candidate | None) -> str:
    """Return the text of the answer without thoughts."""
    parts = (candidate and candidate.content and candidate.content.parts) or []
    return "".join(part.text or "" for part in parts if not part.thought)


def _check(response: GenerateContentResponse, candidate: Candidate | None) -> None:
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        raise ContentFiltered(f"Gemini blocked the prompt: {feedback.block_reason.name}")
    reason = candidate and candidate.finish_reason
    if reason in _BLOCKED:
        raise ContentFiltered(f"Gemini stopped the answer: {reason.name}")
    if candidate is None or candidate.content is None or not candidate.content.parts:
        why = "no candidates" if candidate is None else reason.name if reason else "no finish reason"
        raise ValueError(f"Gemini gave an empty answer ({why})")
    # Parts that are not text (a function call, an image) are left to the parser.
    if all(part.text is not None for part in candidate.content.parts) and is_blank(_texts(candidate)):
        raise ValueError(f"Gemini gave a blank answer ({reason.name if reason else 'no finish reason'})")


def _usage(response: GenerateContentResponse, candidate: Candidate | None, sent: Callable[[], str]) -> TokenUsage:
    """Return the token usage as Gemini bills it: thoughts are output, and the prompt includes cached tokens.

    Source: https://ai.google.dev/api/generate-content#UsageMetadata
    """
    metadata = response.usage_metadata
    counts = {} if metadata is None else _counts(metadata)
    headers = (response.sdk_http_response and response.sdk_http_response.headers) or {}
    tier = headers.get("x-gemini-service-tier")
    request = billed(counts, sent, lambda: _texts(candidate), {"service_tier": tier} if tier else None)
    return usage_of([request], safety_ratings=_ratings(response, candidate))


def _counts(metadata: GenerateContentResponseUsageMetadata) -> dict[str, Any]:
    prompt, tools = metadata.prompt_token_count or 0, metadata.tool_use_prompt_token_count or 0
    answer, thoughts = metadata.candidates_token_count or 0, metadata.thoughts_token_count or 0
    whole = min(prompt, tools, answer, thoughts) >= 0  # a negative part makes the sum worthless
    counts: dict[str, Any] = {"input_tokens": prompt + tools, "output_tokens": answer + thoughts} if whole else {}
    counts |= {"cache_read_tokens": metadata.cached_content_token_count, "output_reasoning_tokens": thoughts}
    for name, details in (
        ("input_{}_tokens", metadata.prompt_tokens_details),
        ("input_{}_tokens", metadata.tool_use_prompt_tokens_details),
        ("cache_{}_read_tokens", metadata.cache_tokens_details),
        ("output_{}_tokens", metadata.candidates_tokens_details),
    ):
        for detail in details or ():
            kind = name.format((detail.modality._value_ if detail.modality else "text").lower())
            counts[kind] = counts.get(kind, 0) + (detail.token_count or 0)
    return {name: count for name, count in counts.items() if count}


def _ratings(response: GenerateContentResponse, candidate: Candidate | None) -> dict[str, str] | None:
    """Return the safety ratings of the answer, or those of the prompt if there is no answer."""
    feedback = response.prompt_feedback
    ratings = (candidate and candidate.safety_ratings) or (feedback and feedback.safety_ratings)
    if not ratings:
        return None
    # Not by `name`, which is a call of two functions, eight times an answer.
    return {one.category._name_: one.probability._name_ for one in ratings if one.category and one.probability}
