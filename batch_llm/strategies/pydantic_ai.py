"""Strategy that runs a PydanticAI agent: any provider, structured output, tools."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from batch_llm.errors import CallFailed, ContentFiltered

from .base import BilledRequest, LLMCallStrategy, TokenUsage, TOutput
from .billing import NOT_BILLED, billed, requests_of, text_of, usage_of
from .blank_text import is_blank
from .dry_output import dry_output
from .finish_reasons import FinishReasons, check_complete, truncation_error

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.usage import RunUsage


class PydanticAIStrategy(LLMCallStrategy[TOutput]):
    """Strategy that runs a pydantic-ai agent once per attempt.

    The tokens of every request of an agent run are counted, also if the agent run fails. A blocked answer is a failure
    (`content_filter`), even if PydanticAI accepts the text before the block. Plain text that was cut off at the token
    limit is a valid answer, as in PydanticAI, with the `finish_reason` "length"; one warning is logged. Structured
    output that was cut off fails without another attempt (`validation`). A text of white space and other invisible
    characters only is not an answer.

    Two settings of the agent multiply the requests of an attempt: its `retries` (new requests after an invalid answer,
    1 by default) and those of the SDK (with `model_settings={"max_retries": 0}`, the engine makes all retries and sees
    every 429).

    Any other object with a `run(prompt)` method works too, such as a fake agent in a test: its result may lack an
    output, a response and a usage.

    Args:
        agent: Agent without dependencies.

    Example:
        agent = Agent("openai-chat:gpt-6-luna", output_type=Summary)
        item = LLMWorkItem(item_id="1", strategy=PydanticAIStrategy(agent), prompt="Summarize: ...")
    """

    def __init__(self, agent: Agent[None, TOutput]) -> None:
        self.agent = agent
        self._endings = FinishReasons()
        self._takes_usage = _takes_usage(agent)

    def dry_run(self, prompt: str) -> Any:
        """Return an object of the agent's output type without a call, else a text."""
        return dry_output(getattr(self.agent, "output_type", str), prompt)

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Run the agent once; `attempt` and `timeout` are not used."""
        from pydantic_ai import capture_run_messages
        from pydantic_ai.usage import RunUsage

        usage = RunUsage()  # filled during the agent run: the only source of the tokens of an agent run that raises
        with capture_run_messages() as messages:
            try:
                result: Any = await (
                    self.agent.run(prompt, usage=usage) if self._takes_usage else self.agent.run(prompt)
                )
                reason = _finish_reason(result)
                output: Any = getattr(result, "output", result)
                self._endings.raise_if_blocked(reason, _details(result))
                for response in messages:
                    if response.kind == "response":
                        check_complete(response)
                if isinstance(output, str) and is_blank(output):
                    raise ValueError(f"there is no answer in the response (finish reason: {reason})")
            except Exception as error:
                if not usage.requests:
                    raise
                responses = [message for message in messages if message.kind == "response"]
                reason = responses[-1].finish_reason if responses else None
                paid = usage_of(_billed(usage, messages), finish_reason=reason)
                raise CallFailed(_cut_off(error, responses), paid) from error
        self._endings.warn_if_truncated(reason)
        if not usage.requests:  # it was not filled
            return cast("TOutput", output), TokenUsage(_tokens_in(result), finish_reason=reason)
        return cast("TOutput", output), usage_of(_billed(usage, messages), finish_reason=reason)


def _billed(usage: RunUsage, messages: list[ModelMessage]) -> list[BilledRequest]:
    """Return the billed requests of an agent run, as one sum if its messages do not account for all tokens."""
    requests = [message.usage for message in messages if message.kind == "response"]
    if sum(one.total_tokens for one in requests) == usage.total_tokens:
        return requests_of(messages)
    units = {name: count for name, count in vars(usage).items() if count and name not in NOT_BILLED}
    return [billed(units, lambda: text_of(messages[:-1]), lambda: text_of(messages[-1:]))]


def _cut_off(error: Exception, responses: list[ModelResponse]) -> Exception:
    """Return the real cause of an invalid answer that the content filter or the token limit cut off."""
    if any(response.finish_reason == "content_filter" for response in responses):
        return ContentFiltered(f"the provider's content filter stopped the answer ({error})")
    if responses and responses[-1].finish_reason == "length":
        return truncation_error(responses[-1], None)
    return error


def _takes_usage(agent: object) -> bool:
    """Return whether an agent's `run` accepts a usage object to fill, as pydantic-ai's agents do."""
    try:
        parameters = inspect.signature(getattr(agent, "run", agent)).parameters.values()  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return True
    return any(each.name == "usage" or each.kind is each.VAR_KEYWORD for each in parameters)


def _finish_reason(result: object) -> str | None:
    try:
        reason: object = getattr(getattr(result, "response", None), "finish_reason", None)
    except Exception:  # pydantic-ai's property raises where there is no response
        return None
    return reason if isinstance(reason, str) else None


def _details(result: object) -> Any:
    try:
        return getattr(getattr(result, "response", None), "provider_details", None)
    except Exception:  # as above
        return None


def _tokens_in(result: object) -> dict[str, int]:
    """Return the token counts that a result has in its `usage`, a property or a method; missing counts are omitted."""
    names = {"cached_input_tokens": "cache_read_tokens"}
    tokens: dict[str, int] = {}
    try:
        usage: Any = getattr(result, "usage", None)
        usage = usage() if callable(usage) else usage
        for name in ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens"):
            theirs = names.get(name, name)
            count: object = usage.get(theirs) if isinstance(usage, dict) else getattr(usage, theirs, None)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(count, int) and not isinstance(count, bool) and (count or not name.startswith("cached")):
                tokens[name] = count
    except Exception:
        return tokens
    return tokens
