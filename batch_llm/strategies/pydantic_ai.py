"""Calls through a PydanticAI agent: any provider, structured output, tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_llm.errors import CallFailed, ContentFiltered

from .base import LLMCallStrategy, TOutput
from .blank_text import is_blank
from .responses import Endings, tokens_of, truncated

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse


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
                reason = result.response.finish_reason
                self._endings.refuse_filtered(reason, result.response.provider_details)
                if isinstance(result.output, str) and is_blank(result.output):
                    raise ValueError(f"there is no answer in the response (finish reason: {reason})")
            except Exception as error:
                if not usage.requests:
                    raise
                responses = [message for message in messages if message.kind == "response"]
                reason = responses[-1].finish_reason if responses else None
                raise CallFailed(_cut_off(error, responses), tokens_of(usage, finish_reason=reason)) from error
        self._endings.note_limit(reason)
        return result.output, tokens_of(usage, finish_reason=reason)


def _cut_off(error: Exception, responses: list[ModelResponse]) -> Exception:
    """Return what really happened where an answer did not fit because the filter or the token limit had cut it off."""
    if any(response.finish_reason == "content_filter" for response in responses):
        return ContentFiltered(f"the provider's content filter stopped the answer ({error})")
    if responses and responses[-1].finish_reason == "length":
        return truncated(responses[-1], None)
    return error
