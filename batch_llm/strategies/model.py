"""Strategy that calls a PydanticAI model directly: any provider, with little CPU time per call."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, overload

from batch_llm.errors import CallFailed

from .base import BilledRequest, LLMCallStrategy, TokenUsage, TOutput
from .billing import request_of, text_of, usage_of
from .dry_output import dry_output
from .finish_reasons import FinishReasons, check_complete, is_broken_off, truncation_error
from .max_tokens import MaxTokensSetting
from .model_output import ModelAnswers, reason_in_words
from .output_modes import OutputMode, OutputModes, RequestMode
from .output_schema import shape_of
from .server_facts import ServerFacts

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelRequest, ModelRequestPart, ModelResponse
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings


class ModelStrategy(LLMCallStrategy[TOutput]):
    """Strategy that calls a pydantic-ai model once per attempt.

    It behaves like `PydanticAIStrategy` with an agent that has instructions and an output type, for a fraction of the
    CPU time. The model receives the same prompt, the same schema, and the same feedback on an invalid answer.
    Structured output uses the provider's JSON Schema output if the model supports it, else a tool call, else a prompt.

    After an invalid answer, the model is asked again within the attempt, with the reason, up to `reasks` times; then
    the attempt fails (`validation`). The tokens of every request are counted, also if the attempt fails. Two kinds of
    answers are never retried, because they would end the same way: a blocked answer (`content_filter`), and structured
    output that was cut off at the token limit (`validation`). Plain text that was cut off at the token limit is a valid
    answer with the `finish_reason` "length"; one warning is logged. A text of white space and other invisible
    characters only is not an answer. In structured output, text around the only JSON object that matches is ignored; if
    several different objects match, the answer is invalid.

    A compatible server (an `OpenAIChatModel` whose base URL is not OpenAI's) receives the setting `max_tokens` under
    this name, and as `max_completion_tokens` after it rejected `max_tokens`.

    The strategy does not close the model's client, and the client's own retries apply: with
    `settings={"max_retries": 0}`, or a client without retries, the engine makes all retries and sees every 429.

    Args:
        model: A pydantic-ai model.
        instructions: System instructions, the same for every prompt.
        output_type: Type of the answers: `str`, any type that pydantic supports, or a JSON Schema of type object, whose
            answers are dicts.
        settings: Temperature, token limit, ... They are added to the model's own settings.
        reasks: Maximum number of times that the model is asked again within an attempt after an invalid answer.
        output_mode: How structured output is requested: "native" (the provider's JSON Schema output), "tool" (a tool
            call) or "prompted" (instructions). "auto" uses the best mode that the model supports, and the next one if
            the server rejects it; the first rejection does not count as an attempt.
        facts: Known facts about the server; shared by strategies that call the same server.

    Raises:
        ValueError: `reasks` or `output_mode` is invalid.
        pydantic_ai.exceptions.UserError: The JSON Schema does not describe an object.
        LookupError: A reference in the JSON Schema cannot be resolved.

    Example:
        strategy = ModelStrategy(OpenAIChatModel("gpt-6-luna"), output_type=Summary)
        item = LLMWorkItem(item_id="1", strategy=strategy, prompt="Summarize: ...")
    """

    @overload
    def __init__(
        self: ModelStrategy[str],
        model: Model,
        *,
        instructions: str | None = None,
        settings: ModelSettings | None = None,
        reasks: int = 1,
        output_mode: OutputMode = "auto",
        facts: ServerFacts | None = None,
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
        output_mode: OutputMode = "auto",
        facts: ServerFacts | None = None,
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
        output_mode: OutputMode = "auto",
        facts: ServerFacts | None = None,
    ) -> None: ...

    def __init__(
        self,
        model: Model,
        *,
        instructions: str | None = None,
        output_type: Any = str,
        settings: ModelSettings | None = None,
        reasks: int = 1,
        output_mode: OutputMode = "auto",
        facts: ServerFacts | None = None,
    ) -> None:
        if type(reasks) is not int or reasks < 0:
            raise ValueError(f"reasks is {reasks!r}; it must be an integer of 0 or more: 0 asks only once")
        if output_mode not in ("auto", "native", "tool", "prompted"):
            raise ValueError(f"output_mode is {output_mode!r}; it must be 'auto', 'native', 'tool' or 'prompted'")
        self.model = model
        self._instructions = instructions or None
        self._output_type = output_type
        shape = None if output_type is str else shape_of(output_type)
        self._answers = ModelAnswers(model, shape, self._instructions)
        self._shape_text = "" if shape is None else str(shape.schema)
        facts = facts or ServerFacts()
        self._modes = None if output_type is str else OutputModes(model, output_mode, facts)
        self._limit = MaxTokensSetting(model, settings, facts)
        self._reasks = reasks
        self._endings = FinishReasons()

    def dry_run(self, prompt: str) -> Any:
        """Return an object of the output type without a call, else a text."""
        return dry_output(self._output_type, prompt)

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[TOutput, dict[str, int]]:
        """Call the model, and again after an invalid answer; `attempt` and `timeout` are not used."""
        from pydantic_ai.messages import UserPromptPart

        billed: list[BilledRequest] = []
        responses: list[ModelResponse] = []
        try:
            async with self._modes.call() if self._modes else nullcontext():
                answer = await self._converse([self._to_request(UserPromptPart(prompt))], responses, billed)
        except Exception as error:
            if not billed:
                raise
            raise CallFailed(error, _billed(responses, billed)) from error
        return answer, _billed(responses, billed)

    async def _converse(
        self, messages: list[ModelMessage], responses: list[ModelResponse], billed: list[BilledRequest]
    ) -> Any:
        """Return the first valid answer; append each response to `responses`, and its billed request to `billed`."""

        def sent() -> str:
            return self._shape_text + text_of(messages)

        while True:
            response, mode = await self._request(messages)
            responses.append(response)
            billed.append(request_of(response, sent))
            ending = response.finish_reason, response.provider_details
            self._endings.raise_if_blocked(*ending)
            check_complete(response)
            try:
                if response.finish_reason == "error":
                    raise ValueError(f"the provider broke off the answer (finish reason: {reason_in_words(response)})")
                answer = self._answers.read(response, mode)
            except ValueError as error:
                if response.finish_reason == "length":
                    raise truncation_error(response, self._limit.value) from error
                if len(responses) > self._reasks or is_broken_off(*ending):
                    raise
                messages += [response, self._to_request(*self._answers.feedback(response, error, mode))]
            else:
                self._endings.warn_if_truncated(response.finish_reason)
                return answer

    async def _request(self, messages: list[ModelMessage]) -> tuple[ModelResponse, RequestMode]:
        """Make one request, again in another mode if the server rejects this one; return the response and its mode."""
        from pydantic_ai.direct import model_request

        while True:
            mode, name = self._modes.current if self._modes else "text", self._limit.name
            try:
                response = await model_request(
                    self.model,
                    messages,
                    model_settings=self._limit.settings(name),
                    model_request_parameters=self._answers.parameters(mode),
                )
            except IndexError as error:  # pydantic-ai's, where a list that should hold the answer is empty
                raise ValueError("the reply has no choices") from error
            except Exception as error:
                if self._limit.is_renamed(error, name) or (self._modes and self._modes.is_replaced(error, mode)):
                    continue
                raise
            if self._modes:
                self._modes.accept()
            self._limit.note(response.usage.output_tokens, name)
            return response, mode

    def _to_request(self, *parts: ModelRequestPart) -> ModelRequest:
        from pydantic_ai.messages import ModelRequest

        return ModelRequest(parts, instructions=self._instructions)


def _billed(responses: list[ModelResponse], billed: list[BilledRequest]) -> TokenUsage:
    return usage_of(billed, finish_reason=responses[-1].finish_reason)
