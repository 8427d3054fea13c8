"""Calls to a PydanticAI model without an agent between: the lean way to any provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from batch_llm.errors import CallFailed

from .answer_shape import shape_of
from .base import LLMCallStrategy, TOutput
from .model_answers import ModelAnswers
from .responses import Endings, tokens_of

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequest, ModelRequestPart
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.usage import RequestUsage


class ModelStrategy(LLMCallStrategy[TOutput]):
    """Asks `model` once per attempt: `ModelStrategy(OpenAIChatModel("gpt-6-luna"), output_type=Summary)`.

    It does what `PydanticAIStrategy` does with an agent that has instructions and an output type, for a fraction of the
    CPU. A model sees the same prompt, the same schema and the same words where its answer does not fit. Structured
    output is native where the model has it, else a call of a tool, else asked for in words.

    An answer that does not fit is asked for again within the attempt, with the reason, up to `reasks` times; then the
    attempt fails (`validation`). The tokens of every request are counted, also when the attempt fails. Two answers are
    not asked for again, for they would end the same way: a blocked one (`content_filter`), and structured output that
    was cut off at the token limit (`validation`). Plain text that ends at the token limit is an answer; a warning says
    so once.

    The model's client stays open and keeps its own retries: `settings={"max_retries": 0}`, or a client made without,
    leaves them to the engine, which then sees every 429.

    Args:
        model: A live model of pydantic-ai.
        instructions: System instructions, the same for every prompt.
        output_type: What an answer is: `str`, any type that pydantic knows, or a JSON Schema of type object, whose
            answers are dicts.
        settings: Temperature, token limit, ... They are added to the model's own.
        reasks: How often an answer that does not fit is asked for again within an attempt; 0 or more.

    Raises:
        ValueError: `reasks` breaks its rule.
        pydantic_ai.exceptions.UserError: The JSON Schema describes something else than an object, or refers to itself.
    """

    @overload
    def __init__(
        self: ModelStrategy[str],
        model: Model,
        *,
        instructions: str | None = None,
        settings: ModelSettings | None = None,
        reasks: int = 1,
    ) -> None: ...

    @overload
    def __init__(
        self: ModelStrategy[dict[str, Any]],
        model: Model,
        *,
        instructions: str | None = None,
        output_type: dict[str, Any],
        settings: ModelSettings | None = None,
        reasks: int = 1,
    ) -> None: ...

    @overload
    def __init__(
        self,
        model: Model,
        *,
        instructions: str | None = None,
        output_type: type[TOutput],
        settings: ModelSettings | None = None,
        reasks: int = 1,
    ) -> None: ...

    def __init__(
        self,
        model: Model,
        *,
        instructions: str | None = None,
        output_type: Any = str,
        settings: ModelSettings | None = None,
        reasks: int = 1,
    ) -> None:
        if type(reasks) is not int or reasks < 0:
            raise ValueError(f"reasks is {reasks!r}; it must be a whole number of 0 or more: 0 asks once only")
        self.model = model
        self._instructions = instructions or None
        self._answers = ModelAnswers(model, None if output_type is str else shape_of(output_type))
        self._parameters = self._answers.parameters(self._instructions)
        self._settings = settings
        self._reasks = reasks
        self._endings = Endings()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Ask, and again where the answer does not fit. `attempt` and `timeout` are the engine's business."""
        from pydantic_ai.messages import UserPromptPart

        usages: list[RequestUsage] = []
        try:
            return await self._converse([self._said(UserPromptPart(prompt))], usages), tokens_of(*usages)
        except Exception as error:
            if not usages:
                raise
            raise CallFailed(error, tokens_of(*usages)) from error

    async def _converse(self, messages: list[ModelMessage], usages: list[RequestUsage]) -> Any:
        """Return the first answer that fits; what each request cost goes into `usages`."""
        from pydantic_ai.direct import model_request

        while True:
            response = await model_request(
                self.model, messages, model_settings=self._settings, model_request_parameters=self._parameters
            )
            usages.append(response.usage)
            self._endings.refuse_filtered(response.finish_reason)
            try:
                answer = self._answers.read(response)
            except ValueError as error:
                if len(usages) > self._reasks or response.finish_reason == "length":
                    raise
                messages += [response, self._said(*self._answers.feedback(response, error))]
            else:
                self._endings.note_limit(response.finish_reason)
                return answer

    def _said(self, *parts: ModelRequestPart) -> ModelRequest:
        from pydantic_ai.messages import ModelRequest

        return ModelRequest(parts, instructions=self._instructions)
