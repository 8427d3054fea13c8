"""Calls through a PydanticAI agent: any provider, structured output, tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_llm.errors import CallFailed, ContentFiltered

from .base import LLMCallStrategy, TOutput
from .responses import Endings, tokens_of

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage


class PydanticAIStrategy(LLMCallStrategy[TOutput]):
    """Runs `agent` once per attempt: `Agent("openai-chat:gpt-6-luna", output_type=Summary)`.

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
        self._endings = Endings()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Run the agent once. `attempt` and `timeout` are the engine's business."""
        from pydantic_ai import capture_run_messages
        from pydantic_ai.usage import RunUsage

        usage = RunUsage()  # filled as the run goes on: the only place that knows the tokens of a run that raises
        with capture_run_messages() as messages:
            try:
                result = await self.agent.run(prompt, usage=usage)
                self._endings.refuse_filtered(result.response.finish_reason)
            except Exception as error:
                if not usage.requests:
                    raise
                raise CallFailed(_blocked(error, messages), tokens_of(usage)) from error
        self._endings.note_limit(result.response.finish_reason)
        return result.output, tokens_of(usage)


def _blocked(error: Exception, messages: list[ModelMessage]) -> Exception:
    """Return what really happened where an answer did not fit because the filter had cut it off."""
    if any(message.kind == "response" and message.finish_reason == "content_filter" for message in messages):
        return ContentFiltered(f"the provider's content filter stopped the answer ({error})")
    return error
