"""Creation of the strategy for a job's model, in the process where the job runs."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs.job import LOCAL, BatchJob
from batch_llm.jobs.prompts import cached_context
from batch_llm.jobs.provider_addresses import check_environment
from batch_llm.jobs.secrets import key_missing
from batch_llm.jobs.storage.json_files import read_object, to_json, write_whole
from batch_llm.strategies.base import LLMCallStrategy
from batch_llm.strategies.model import ModelStrategy
from batch_llm.strategies.output_schema import check_shape
from batch_llm.strategies.server_facts import ServerFacts

from .flex import FlexStrategy, check_flex, engine_config
from .local import MODEL_NAME, SETTINGS, check_local_model, local_base_urls
from .wrappers import ClientOwningStrategy, LeastBusyStrategy

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

    from .clients import Client, HeadersCallback

GEMINI_DIRECT = "gemini-direct"
_GOOGLE_KEYS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
_EXAMPLES = "'openai-chat:gpt-6-luna', 'google:gemini-3.8-flash', 'anthropic:claude-haiku-5-5' or 'local'"


_MISSPELLED = 0.85
"""Similarity from which an unknown name is a misspelled one; `top_k`, which some providers have, is not `top_p`."""


def check_model(job: BatchJob) -> None:
    """Check, without a call, that the job's model is known and its key, packages and files are available.

    Raises:
        JobError: Unknown provider or model, misspelled model setting, missing key, package or file, or circular schema.
    """
    if job.cached_context is not None:
        if _provider(job) != GEMINI_DIRECT:
            raise JobError(f"cached_context works with '{GEMINI_DIRECT}:<model>' only, not with model {job.model!r}")
        cached_context(job)
    _check_setting_names(job.model_settings)
    if job.lane == "flex":
        check_flex(job)
    if job.model != LOCAL:
        check_environment(job.model)
    if _provider(job) == GEMINI_DIRECT and job.output_mode not in ("auto", "native"):
        raise JobError(f"output_mode={job.output_mode} does not work with {job.model!r}: leave it out, or set 'native'")
    if job.model == LOCAL:
        check_local_model()
    elif _provider(job) == GEMINI_DIRECT:
        _google_key(job)
    else:
        named_model(job.model)
    if job.output_schema is not None and _provider(job) != GEMINI_DIRECT:
        _check_shape(job.output_schema)


def make_strategy(
    job: BatchJob, on_headers: HeadersCallback | None = None, facts_file: Path | None = None
) -> LLMCallStrategy[Any]:
    """Return the strategy for a job's calls, with clients whose own retries are disabled.

    Args:
        job: The job.
        on_headers: Called with the headers of responses, which report the provider's limits.
        facts_file: File in which the shards of a run share what they detect about the server; None for no file.

    Raises:
        JobError: The model cannot be used; see `check_model`.
    """
    check_model(job)
    if _provider(job) == GEMINI_DIRECT:
        from .gemini import gemini_strategy

        return gemini_strategy(job, _google_key(job), job.model.partition(":")[2], on_headers)
    from .clients import model_and_client, without_streaming

    if job.model == LOCAL:
        settings = {**SETTINGS, **job.model_settings}
        facts = ServerFacts()
        return LeastBusyStrategy([_calls(job, *_local_model(job, url), settings, facts) for url in local_base_urls()])
    model, client = model_and_client(job.model, engine_config(job), on_headers)
    settings = without_streaming(model, job.model_settings, engine_config(job))
    return _calls(job, model, client, settings, _facts(facts_file))


def _facts(file: Path | None) -> ServerFacts:
    if file is None:
        return ServerFacts()
    known = {name: value for name, value in read_object(file).items() if isinstance(value, str)}

    def keep(facts: dict[str, str]) -> None:
        with suppress(OSError):  # other shards then detect it themselves
            write_whole(file, to_json(facts))

    return ServerFacts(known, keep)


def _calls(
    job: BatchJob, model: Model, client: Client, settings: Mapping[str, Any], facts: ServerFacts
) -> LLMCallStrategy[Any]:
    output_type: Any = str if job.output_schema is None else job.output_schema

    def at(**tier: Any) -> LLMCallStrategy[Any]:
        # The engine retries. A client that retries as well would hide rate limits from it and multiply the calls.
        return ModelStrategy(
            model,
            instructions=job.instructions,
            output_type=output_type,
            settings=cast("ModelSettings", {**settings, **tier, "max_retries": 0}),
            output_mode=job.output_mode,
            facts=facts,
        )

    if job.lane == "flex":
        both = FlexStrategy(at(service_tier="flex"), at(), job.model, job.config.timeout_per_item)
        return ClientOwningStrategy(both, client)
    return ClientOwningStrategy(at(), client)


def _provider(job: BatchJob) -> str:
    return job.model.partition(":")[0]


def _local_model(job: BatchJob, base_url: str) -> tuple[Model, Client]:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from .clients import http_client

    http = http_client(job.config)
    # The server ignores the key; without a key the client would send the user's OpenAI key.
    provider = OpenAIProvider(base_url=base_url, api_key="local", http_client=http)
    return OpenAIChatModel(MODEL_NAME, provider=provider), http


def named_model(model: str) -> Model:
    """Return pydantic-ai's model of this name, for checks; its client makes no calls.

    Raises:
        JobError: The model is unknown, or its key or package is missing.
    """
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    try:
        return infer_model(model)
    except UserError as error:
        raise _cannot_be_used(model, str(error)) from error
    except ImportError as error:
        raise JobError(f"model {model!r} needs a package that is not installed: {error}") from error


def _check_setting_names(settings: Mapping[str, Any]) -> None:
    """Check that no name is a misspelled setting, which pydantic-ai would ignore; providers have names of their own."""
    if not settings:
        return
    from pydantic_ai.settings import ModelSettings

    known = ModelSettings.__annotations__
    for name in settings:
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=_MISSPELLED)):
            raise JobError(f"model_settings.{name} is not a setting: did you mean 'model_settings.{near[0]}'?")


def _check_shape(schema: dict[str, Any]) -> None:
    try:
        check_shape(schema)
    except LookupError as error:
        raise JobError(
            "output_schema cannot be used: a $ref in it refers to itself or to a missing definition; replace it by "
            "the definition"
        ) from error


def _cannot_be_used(model: str, message: str) -> JobError:
    if variable := re.search(r"`([A-Z][A-Z0-9_]+)` environment variable", message):
        server = "; for a compatible server, OPENAI_BASE_URL" if variable[1] == "OPENAI_API_KEY" else ""
        return key_missing(model, (variable[1],), server)
    if message.startswith("Unknown model"):
        hint = message.partition("Did you mean ")[2]
        return JobError(
            f"model {model!r} is unknown: " + (f"did you mean {hint}" if hint else f"name one like {_EXAMPLES}")
        )
    return JobError(f"model {model!r} cannot be used: {message.splitlines()[0]}")


def _google_key(job: BatchJob) -> str:
    if not job.model.partition(":")[2]:
        raise JobError(f"model {job.model!r} has no model name: write '{GEMINI_DIRECT}:gemini-3.8-flash', for example")
    key = next((os.environ[name] for name in _GOOGLE_KEYS if os.environ.get(name)), None)
    if key is None:
        raise key_missing(job.model, _GOOGLE_KEYS)
    return key
