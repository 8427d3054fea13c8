"""Requests to a pydantic-ai model for one kind of output, parsing of its answers, and feedback on invalid ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .blank_text import is_blank
from .output_modes import RequestMode
from .output_schema import AnswerShape

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_ai.messages import ModelRequestPart, ModelResponse, ToolCallPart
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition

# Name and description of the tool that receives the answer, as in pydantic-ai's agents.
_TOOL = "final_result"
_TOOL_DESCRIPTION = "The final response which ends this conversation"
_CALL_THE_TOOL = "Please include your response in a tool call."


class _NoAnswer(ValueError):
    """The response contains nothing that could be an answer."""


class ModelAnswers:
    """One kind of answer: plain text, or structured output of a given shape.

    Args:
        model: Model that answers.
        shape: Shape of structured output; None for plain text.
        instructions: System instructions.
    """

    def __init__(self, model: Model, shape: AnswerShape | None, instructions: str | None) -> None:
        self._model = model
        self._shape = shape
        self._instructions = instructions
        self._parameters: dict[RequestMode, ModelRequestParameters] = {}

    def parameters(self, mode: RequestMode) -> ModelRequestParameters:
        """Return the request parameters of a mode: the same object for every request."""
        if mode not in self._parameters:
            self._parameters[mode] = self._made(mode)
        return self._parameters[mode]

    def _made(self, mode: RequestMode) -> ModelRequestParameters:
        from pydantic_ai.messages import InstructionPart
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.output import OutputObjectDefinition
        from pydantic_ai.tools import ToolDefinition

        parts = [InstructionPart(content=self._instructions)] if self._instructions else []
        shape = self._shape
        if shape is None:
            return ModelRequestParameters(instruction_parts=parts)
        output_object = OutputObjectDefinition(json_schema=shape.schema, name=shape.name, description=shape.description)
        if mode == "words":
            return ModelRequestParameters(
                instruction_parts=[*parts, InstructionPart(content=self._in_words(output_object))]
            )
        description = shape.description or _TOOL_DESCRIPTION
        tool = ToolDefinition(name=_TOOL, description=description, parameters_json_schema=shape.schema, kind="output")
        # pydantic-ai converts each schema again for every request, so the unused one is omitted.
        return ModelRequestParameters(
            output_mode=mode,
            output_object=None if mode == "tool" else output_object,
            output_tools=[tool] if mode in ("tool", "auto") else [],
            allow_text_output=mode != "tool",
            instruction_parts=parts,
        )

    def _in_words(self, output_object: OutputObjectDefinition) -> str:
        """Return the instruction of "prompted" output, for a server without a JSON mode."""
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.profiles import DEFAULT_PROMPTED_OUTPUT_TEMPLATE

        template = self._model.profile.get("prompted_output_template", DEFAULT_PROMPTED_OUTPUT_TEMPLATE)
        parameters = ModelRequestParameters(
            output_mode="prompted", output_object=output_object, prompted_output_template=template
        )
        return parameters.prompted_output_instructions or ""

    def read(self, response: ModelResponse, mode: RequestMode) -> Any:
        """Return the output that a response contains.

        Raises:
            ValueError: There is no answer, or it is invalid.
        """
        from pydantic_ai.messages import TextPart

        if arguments := [_arguments(call) for call in response.tool_calls if call.tool_name == _TOOL]:
            if len(set(arguments)) > 1:
                raise ValueError(f"There are {len(set(arguments))} different answers; return exactly one")
            answer = arguments[0]
        else:
            texts = [part.content for part in response.parts if isinstance(part, TextPart)]
            answer = "".join(filter(None, texts))  # None in a block of a type that the client does not know
        if is_blank(answer):
            raise _NoAnswer(f"there is no answer in the response (finish reason: {reason_in_words(response)})")
        if self._shape is None:
            return answer
        try:
            return self._shape.parse(answer)
        except ValueError as error:
            if mode == "tool" and not response.tool_calls:
                raise _NoAnswer(f"the response has no tool call, and its text is not a valid answer: {error}") from None
            raise

    def feedback(self, response: ModelResponse, error: ValueError, mode: RequestMode) -> list[ModelRequestPart]:
        """Return the feedback to the model on a response that `read` rejected, worded as by pydantic-ai's agents."""
        if calls := response.tool_calls:  # a call without an answer would make the next request invalid
            return [_refused_call(call, error) for call in calls]
        return [_refused_text(error, mode)]


def reason_in_words(response: ModelResponse) -> str:
    """Return the finish reason of a response, followed by the provider's own name for it if that differs."""
    own = (response.provider_details or {}).get("finish_reason")
    known = response.finish_reason
    return f"{known}, {own}" if known and own and own != known else str(own or known or "none given")


def _arguments(call: ToolCallPart) -> str:
    return call.args if isinstance(call.args, str) and call.args else json.dumps(call.args or {})


def _refused_text(error: ValueError, mode: RequestMode) -> ModelRequestPart:
    from pydantic import ValidationError
    from pydantic_ai.messages import RetryFeedbackPart, RetryInfo

    if isinstance(error, _NoAnswer):
        wanted = _CALL_THE_TOOL if mode == "tool" else "Please return text."
        return RetryFeedbackPart(wanted, retry=RetryInfo(cause="no_output"))
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_context=False)
        return RetryFeedbackPart(details, retry=RetryInfo(cause="validation_error"))
    return RetryFeedbackPart(str(error), retry=RetryInfo(cause="model_retry"))


def _refused_call(call: ToolCallPart, error: ValueError) -> ModelRequestPart:
    from pydantic import ValidationError
    from pydantic_ai.messages import ToolReturnPart

    reason: Any = _CALL_THE_TOOL if isinstance(error, _NoAnswer) else str(error)
    if isinstance(error, ValidationError):
        reason = _details(error)
    return ToolReturnPart(call.tool_name, reason, call.tool_call_id, outcome="retried")


def _details(error: ValidationError) -> list[dict[str, Any]]:
    """Return the validation errors as plain JSON, which quotes the whole answer at most once."""
    details: list[dict[str, Any]] = json.loads(error.json(include_url=False, include_context=False))
    of_the_whole = [detail for detail in details if len(detail["loc"]) <= 1]
    for detail in of_the_whole[1:]:
        if detail["input"] == of_the_whole[0]["input"]:
            del detail["input"]
    return details
