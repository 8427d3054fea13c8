"""Model settings that a model ignores, so that a run can report them before its first call."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

from batch_llm.jobs.job import LOCAL, BatchJob
from batch_llm.jobs.secrets import KeyMissing

from .factory import GEMINI_DIRECT, named_model

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings


def ignored_settings(job: BatchJob) -> tuple[str, ...]:
    """Return the names of a job's `model_settings` that pydantic-ai does not send to the job's model.

    It needs no key.

    Raises:
        JobError: The model cannot be used.

    Example:
        >>> ignored_settings(job.model_copy(update={"model": "openai-chat:o3", "model_settings": {"temperature": 0}}))
        ('temperature',)
    """
    if not job.model_settings or job.model == LOCAL or job.model.startswith(f"{GEMINI_DIRECT}:"):
        return ()
    model = _model(job.model)
    sent = _sent(model, job.model_settings)
    return tuple(name for name in job.model_settings if name not in sent)


def _model(name: str) -> Model:
    try:
        return named_model(name)
    except KeyMissing:
        from pydantic_ai.models import infer_model
        from pydantic_ai.providers import Provider, infer_provider_class

        def without_key(provider: str) -> Provider[Any]:
            create = cast("type[Any]", infer_provider_class(provider))
            return create(api_key="none")

        return infer_model(name, without_key)


def _sent(model: Model, settings: dict[str, Any]) -> set[str]:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import ModelRequestParameters

    parameters = ModelRequestParameters()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepared, parameters = model.prepare_request(cast("ModelSettings", {**settings}), parameters)
    except UserError:
        return {*settings}  # the calls will report it
    # `thinking`, `cache` and `tool_choice` are moved from the settings into the parameters.
    moved = {name for name in settings if getattr(parameters, name, None) is not None}
    return {*(prepared or {}), *moved} - {*model.unsupported_settings} - _dropped_while_reasoning(model, settings)


def _dropped_while_reasoning(model: Model, settings: dict[str, Any]) -> set[str]:
    """Return what pydantic-ai drops for an OpenAI model that reasons, when it builds the request.

    https://ai.pydantic.dev/api/profiles/#pydantic_ai.profiles.openai.OpenAIModelProfile
    """
    profile = cast("dict[str, Any]", model.profile)
    dropped = {*(profile.get("openai_unsupported_model_settings") or ())}
    if not profile.get("openai_supports_reasoning") or (_can_stop(profile) and not _reasons(profile, settings)):
        return dropped
    from pydantic_ai.profiles.openai import SAMPLING_PARAMS

    return {*SAMPLING_PARAMS, *dropped}


def _can_stop(profile: dict[str, Any]) -> bool:
    efforts = profile.get("openai_reasoning_efforts")
    return bool(profile.get("openai_supports_reasoning_effort_none")) if efforts is None else "none" in efforts


def _reasons(profile: dict[str, Any], settings: dict[str, Any]) -> bool:
    if (effort := settings.get("openai_reasoning_effort")) is not None:
        return effort != "none"
    if (thinking := settings.get("thinking")) is not None:
        return thinking is not False or bool(profile.get("thinking_always_enabled"))
    return bool(profile.get("thinking_enabled_by_default"))
