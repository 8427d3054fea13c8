"""Calls through a PydanticAI agent: any provider, structured output, tools."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batch_llm.errors import CallFailed, ContentFiltered

from .base import LLMCallStrategy, TOutput

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.usage import RunUsage

log = logging.getLogger(__name__)


class PydanticAIStrategy(LLMCallStrategy[TOutput]):
    """Runs `agent` once per attempt: `Agent("openai-chat:gpt-4.1-mini", output_type=Summary)`.

    The tokens of every request of a run are counted, also when the run fails. A blocked answer is a failure
    (`content_filter`), even where PydanticAI takes the text before the block for an answer. Plain text that ends at the
    token limit is an answer, as it is to PydanticAI; a warning says so once. Structured output that ends there fails
    (`validation`).

    Two things multiply the requests of an attempt and are the agent's to set: its own `retries` (re-asks after an
    answer that does not fit, 1 by default) and the SDK's (`model_settings={"max_retries": 0}` leaves them to the
    engine, which then sees every 429).

    Args:
        agent: A ready agent without dependencies.
    """

    def __init__(self, agent: Agent[None, TOutput]) -> None:
        self.agent = agent
        self._warned_of_limit = False

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Run the agent once. `attempt` and `timeout` are the engine's business."""
        from pydantic_ai import capture_run_messages
        from pydantic_ai.usage import RunUsage

        usage = RunUsage()  # filled as the run goes on: the only place that knows the tokens of a run that raises
        with capture_run_messages() as messages:
            try:
                result = await self.agent.run(prompt, usage=usage)
                self._check_ending(result.response.finish_reason)
            except Exception as error:
                if not usage.requests:
                    raise
                raise CallFailed(_blocked(error, messages), _tokens(usage)) from error
        return result.output, _tokens(usage)

    def _check_ending(self, finish_reason: str | None) -> None:
        if finish_reason == "content_filter":
            raise ContentFiltered("what there is of it is no answer")
        if finish_reason == "length" and not self._warned_of_limit:
            self._warned_of_limit = True
            log.warning("An answer was cut off at the token limit; raise max_tokens if answers must be whole.")


def _blocked(error: Exception, messages: list[ModelMessage]) -> Exception:
    """Return what really happened where an answer did not fit because the filter had cut it off."""
    if any(message.kind == "response" and message.finish_reason == "content_filter" for message in messages):
        return ContentFiltered(f"the provider's content filter stopped the answer ({error})")
    return error


def _tokens(usage: RunUsage) -> dict[str, int]:
    tokens = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return tokens | ({"cached_input_tokens": usage.cache_read_tokens} if usage.cache_read_tokens else {})
