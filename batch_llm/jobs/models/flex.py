"""The lane `flex`: calls at the provider's half-price tier, and at the standard tier when flex has no capacity.

OpenAI     https://platform.openai.com/docs/guides/flex-processing: half price, slower; 429 "Resource Unavailable"
           without capacity, which is not billed
Google     https://ai.google.dev/gemini-api/docs/flex-inference: half price, 1 to 15 minutes; 503 without capacity
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from batch_llm.classifiers.error_bodies import read_error
from batch_llm.classifiers.http_status import status_of
from batch_llm.config import ProcessorConfig
from batch_llm.errors import AttemptTimedOut, JobError, TierUnavailable
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.provider_messages import provider_first
from batch_llm.strategies.base import LLMCallStrategy

FLEX_SECONDS = 600.0
"""Longest wait for an answer at flex; OpenAI suggests 10 to 15 minutes."""

REFUSALS_IN_A_ROW = 3
"""Refused calls without an answer at flex between them, after which calls go to the standard tier for a while."""

STANDARD_ONLY_SECONDS = 600.0
"""Seconds without calls at flex after several refusals."""

_PROVIDERS = ("openai", "openai-chat", "openai-responses", "google", "google-gla")
_NO_CAPACITY = frozenset({498, 503, 529})
_OF_A_LIMIT = re.compile(r"rate.?limit|quota|per.?(minute|day)|\b[rt]p[md]\b", re.IGNORECASE)
_OF_THE_TIER = re.compile(r"service.?tier", re.IGNORECASE)
_log = logging.getLogger(__name__)


class FlexStrategy(LLMCallStrategy[Any]):
    """Strategy that makes each call at flex first, and at the standard tier if flex refuses it or is too slow.

    Both calls belong to one attempt of the engine. After several refusals in a row, calls go to the standard tier alone
    for ten minutes.

    Args:
        flex: Strategy that asks for the flex tier.
        standard: Strategy of the standard tier.
        model: Name of the model, for errors.
        standard_seconds: Seconds until a call at the standard tier times out.
        flex_seconds: Seconds until a call at flex is made at the standard tier instead.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        flex: LLMCallStrategy[Any],
        standard: LLMCallStrategy[Any],
        model: str,
        standard_seconds: float,
        *,
        flex_seconds: float = FLEX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flex, self._standard = flex, standard
        self._model = model
        self._standard_seconds, self._flex_seconds = standard_seconds, flex_seconds
        self._clock = clock
        self._refusals = 0
        self._standard_until = float("-inf")
        self._open = AsyncExitStack()

    async def prepare(self) -> None:
        async with AsyncExitStack() as stack:
            for strategy in (self._flex, self._standard):
                await strategy.prepare()
                stack.push_async_callback(strategy.cleanup)
            self._open = stack.pop_all()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        """Make a call at flex, else at the standard tier.

        Raises:
            TierUnavailable: The model has no flex tier.
        """
        if self._clock() >= self._standard_until:
            patience = asyncio.timeout(self._flex_seconds)
            try:
                async with patience:
                    answer = await self._flex.execute(prompt, attempt, self._flex_seconds)
            except Exception as error:
                self._raise_unless_refused(error, is_late=patience.expired())
            else:
                self._refusals = 0
                return answer
        try:
            async with asyncio.timeout(self._standard_seconds):
                return await self._standard.execute(prompt, attempt, self._standard_seconds)
        except TimeoutError as error:
            raise AttemptTimedOut(f"no answer within {self._standard_seconds:g} s (timeout_per_item)") from error

    async def cleanup(self) -> None:
        await self._open.aclose()

    def _raise_unless_refused(self, error: Exception, *, is_late: bool) -> None:
        if not (is_late or is_refusal(error)):
            if _is_unsupported(error):
                reason = provider_first(f"{type(error).__name__}: {error}")
                raise TierUnavailable(f"{self._model} cannot be called at flex: leave lane out. {reason}") from error
            raise error
        if self._clock() < self._standard_until:
            return  # another call has noticed it already
        self._refusals += 1
        if self._refusals >= REFUSALS_IN_A_ROW:
            self._refusals = 0
            self._standard_until = self._clock() + STANDARD_ONLY_SECONDS
            _log.warning(
                "flex refused or delayed %s calls in a row: calls of this shard use the standard tier for %s minutes",
                REFUSALS_IN_A_ROW,
                f"{STANDARD_ONLY_SECONDS / 60:g}",
            )


def is_refusal(error: Exception) -> bool:
    """Return whether a call failed because the flex tier has no capacity, and not because of a limit of the account."""
    status = next(filter(None, map(status_of, _causes(error))), None)
    if status in _NO_CAPACITY:
        return True
    if status != 429:
        return False
    bodies = [read_error(one) for one in _causes(error)]
    return not any(_OF_A_LIMIT.search(" ".join([body.text, *body.codes])) for body in bodies)


def _is_unsupported(error: Exception) -> bool:
    """Return whether the provider rejected the request because the model has no such tier."""
    return any(
        status_of(one) in (400, 403, 404, 422) and _OF_THE_TIER.search(read_error(one).text) for one in _causes(error)
    )


def _causes(error: BaseException) -> list[BaseException]:
    found = list[BaseException]()
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__
    return found


def check_flex(job: BatchJob) -> None:
    """Check that the job's provider has a flex tier.

    Raises:
        JobError: It has none; the message names an alternative.
    """
    provider, _, name = job.model.partition(":")
    if provider not in _PROVIDERS:
        direct = f": 'google:{name}' is the same model with one" if provider == "gemini-direct" else ""
        raise JobError(
            f"lane=flex does not work with {job.model!r}{direct}; it is for models of 'openai:', 'openai-chat:' and "
            "'google:', so choose one of them, or leave lane out"
        )
    if "service_tier" in job.model_settings:
        raise JobError("lane=flex and model_settings.service_tier both name a tier: leave one of them out")


def engine_config(job: BatchJob) -> ProcessorConfig:
    """Return the engine's settings for a job's calls: a call may take longer if it is made at flex first."""
    if job.lane != "flex":
        return job.config
    return replace(job.config, timeout_per_item=job.config.timeout_per_item + FLEX_SECONDS)
