"""Between a model of pydantic-ai and an output: what is asked of it, what it answered, what was wrong with that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .answer_shape import AnswerShape

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_ai.messages import ModelRequestPart, ModelResponse, ToolCallPart
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.output import OutputMode

# What agents call the tool that takes the answer.
_TOOL = "final_result"
_TOOL_DESCRIPTION = "The final response which ends this conversation"
_CALL_THE_TOOL = "Please include your response in a tool call."


class _NoAnswer(ValueError):
    """There is nothing in the response that could be an answer."""


class ModelAnswers:
    """One kind of answer: plain text, or a shape that the model is held to by the best means it has.

    Args:
        model: Who answers.
        shape: What a structured answer is; None for plain text.
    """

    def __init__(self, model: Model, shape: AnswerShape | None) -> None:
        self._shape = shape
        self._mode: OutputMode = "text" if shape is None else _mode(model)

    def parameters(self, instructions: str | None) -> ModelRequestParameters:
        """Return what tells the model how to answer: the same for every request."""
        from pydantic_ai.messages import InstructionPart
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.output import OutputObjectDefinition
        from pydantic_ai.tools import ToolDefinition

        parts = [InstructionPart(content=instructions)] if instructions else []
        shape = self._shape
        if shape is None:
            return ModelRequestParameters(instruction_parts=parts)
        told = OutputObjectDefinition(json_schema=shape.schema, name=shape.name, description=shape.description)
        description = shape.description or _TOOL_DESCRIPTION
        tool = ToolDefinition(name=_TOOL, description=description, parameters_json_schema=shape.schema, kind="output")
        # Each of them is fitted to the model anew with every request, so the one that is not used is left out.
        return ModelRequestParameters(
            output_mode=self._mode,
            output_object=None if self._mode == "tool" else told,
            output_tools=[tool] if self._mode in ("tool", "auto") else [],
            allow_text_output=self._mode != "tool",
            instruction_parts=parts,
        )

    def read(self, response: ModelResponse) -> Any:
        """Return the output.

        Raises:
            ValueError: There is no answer, or it does not fit.
        """
        answer = self._answer(response)
        if not answer:
            raise _NoAnswer(f"there is no answer in the response (finish reason: {response.finish_reason})")
        return answer if self._shape is None else self._shape.parse(answer)

    def _answer(self, response: ModelResponse) -> str:
        from pydantic_ai.messages import TextPart

        for call in response.tool_calls:
            if call.tool_name == _TOOL:
                return call.args if isinstance(call.args, str) and call.args else json.dumps(call.args or {})
        if self._mode == "tool":
            return ""
        return "".join(part.content for part in response.parts if isinstance(part, TextPart))

    def feedback(self, response: ModelResponse, error: ValueError) -> list[ModelRequestPart]:
        """Return what to tell the model of a response that `read` refused, in the words of pydantic-ai's agents."""
        if calls := response.tool_calls:  # a call without an answer would make the next request invalid
            return [_refused_call(call, error) for call in calls]
        return [self._refused_text(error)]

    def _refused_text(self, error: ValueError) -> ModelRequestPart:
        from pydantic import ValidationError
        from pydantic_ai.messages import RetryFeedbackPart, RetryInfo

        if isinstance(error, _NoAnswer):
            wanted = _CALL_THE_TOOL if self._mode == "tool" else "Please return text."
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
    """Return what was wrong as plain JSON; the whole answer, where it is quoted, is quoted once."""
    details: list[dict[str, Any]] = json.loads(error.json(include_url=False, include_context=False))
    of_the_whole = [detail for detail in details if len(detail["loc"]) <= 1]
    for detail in of_the_whole[1:]:
        if detail["input"] == of_the_whole[0]["input"]:
            del detail["input"]
    return details


def _mode(model: Model) -> OutputMode:
    """Return the best means that a model has to answer in a shape."""
    try:
        profile = model.profile
    except NotImplementedError:  # one of several models will answer, and has the choice then
        return "auto"
    if profile.get("supports_json_schema_output"):
        return "native"
    return profile.get("default_structured_output_mode", "tool")
