"""Calls through a PydanticAI agent: any provider, structured output, tools."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from batch_llm.errors import CallFailed, ContentFiltered

from .base import BilledRequest, LLMCallStrategy, TokenUsage, TOutput
from .billing import NOT_BILLED, billed, requests_of, text_of, usage_of
from .blank_text import is_blank
from .dry_output import dry_output
from .finish_reasons import FinishReasons, truncation_error

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.usage import RunUsage


class PydanticAIStrategy(LLMCallStrategy[TOutput]):
    """Runs `agent` once per attempt: `Agent("openai-chat:gpt-6-luna", output_type=Summary)`.

    The tokens of every request of a run are counted, also when the run fails. A blocked answer is a failure
    (`content_filter`), even where PydanticAI takes the text before the block for an answer. Plain text that ends at the
    token limit is an answer, as it is to PydanticAI, whose `finish_reason` is "length"; a warning says so once.
    Structured output that ends there fails after one attempt (`validation`). A text of white space and other invisible
    characters is no answer.

    Two things multiply the requests of an attempt and are the agent's to set: its own `retries` (re-asks after an
    answer that does not fit, 1 by default) and the SDK's (`model_settings={"max_retries": 0}` leaves them to the
    engine, which then sees every 429).

    Another object with a `run(prompt)`, a test's own agent for one, serves as well: what its result lacks of an
    output, a response and a usage is done without, for a call that worked is no failure.

    Args:
        agent: A ready agent without dependencies.
    """

    def __init__(self, agent: Agent[None, TOutput]) -> None:
        self.agent = agent
        self._endings = FinishReasons()
        self._takes_usage = _takes_usage(agent)

    def dry_run(self, prompt: str) -> Any:
        """Return an object of the agent's output type without a call, else a text."""
        return dry_output(getattr(self.agent, "output_type", str), prompt)

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Run the agent once. `attempt` and `timeout` are the engine's business."""
        from pydantic_ai import capture_run_messages
        from pydantic_ai.usage import RunUsage

        usage = RunUsage()  # filled as the run goes on: the only place that knows the tokens of a run that raises
        with capture_run_messages() as messages:
            try:
                result: Any = await (
                    self.agent.run(prompt, usage=usage) if self._takes_usage else self.agent.run(prompt)
                )
                reason = _finish_reason(result)
                output: Any = getattr(result, "output", result)
                self._endings.raise_if_blocked(reason, _details(result))
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
    """Return the requests of a run one by one; all in one where it made others than those of its messages."""
    requests = [message.usage for message in messages if message.kind == "response"]
    if sum(one.total_tokens for one in requests) == usage.total_tokens:
        return requests_of(messages)
    units = {name: count for name, count in vars(usage).items() if count and name not in NOT_BILLED}
    return [billed(units, lambda: text_of(messages[:-1]), lambda: text_of(messages[-1:]))]


def _cut_off(error: Exception, responses: list[ModelResponse]) -> Exception:
    """Return what really happened where an answer did not fit because the filter or the token limit had cut it off."""
    if any(response.finish_reason == "content_filter" for response in responses):
        return ContentFiltered(f"the provider's content filter stopped the answer ({error})")
    if responses and responses[-1].finish_reason == "length":
        return truncation_error(responses[-1], None)
    return error


def _takes_usage(agent: object) -> bool:
    """Whether an agent's `run` fills a usage, as pydantic-ai's do."""
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
    """Read what a result tells of its tokens, as a property or a method; as far as it goes."""
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
