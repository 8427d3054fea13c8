"""Membership of a process in one scope: exchange of records, cooldowns and limits through the Prefect server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Event
from uuid import uuid4

import httpx
from prefect.client.orchestration import get_client

from batch_llm.config import Limits
from batch_llm.pacing.fair_share import Pause
from batch_llm.pacing.governor import Governor
from batch_llm.pacing.scope_member import ROUNDS, ScopeMember
from batch_llm.prefect.api import one_line

from .member_records import MemberRecords, StatedLimits
from .stated_limits import conflicts, from_value, merged, variable_name

logger = logging.getLogger(__name__)

LIMITS_EVERY = 3
LIMITS_EVERY_WITH_EVENTS = 12
"""Cycles between two reads of the limits; with a working event stream, changes also arrive as events."""

LISTEN_AGAIN_SECONDS = 30.0
_CONNECTIONS = httpx.Limits(max_connections=2, keepalive_expiry=2.0)
"""A server closes connections that are idle for 5 s, about our cycle: no request must coincide with that."""

END_SECONDS = 5.0
"""Seconds to release the share; a share that is not released by then expires."""


class Membership:
    """Membership in a scope, which talks to the server in its own event loop, so that calls wait only for the governor.

    Attributes:
        scope: Name of the scope.
        governor: Governor whose share is set.
        has_share: Event that is set when the first share is known, or the server does not answer.
        is_needed: Whether calls are made; otherwise problems are not logged.
    """

    def __init__(self, scope: str, governor: Governor) -> None:
        self.scope, self.governor = scope, governor
        self.has_share = Event()
        self.is_needed = True
        self._member = ScopeMember(uuid4().hex, governor.scope, time.monotonic())
        self._own = governor.limits
        self._stated: Limits | None = None
        self._unpublished: Pause | None = None
        self._next_cycle = 0.0
        self._cycles_to_limits = 0
        self._receives_events = self._is_unreachable = False
        self._last_problem = ""
        self._warned = set[str]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake = asyncio.Event()

    def set_limits(self, limits: Limits) -> None:
        """Set the limits of the job; thread-safe. If the scope also has a limit, the lower one applies."""
        self._own = limits
        self._set_limits()

    def wake(self) -> None:
        """Check `is_over` of `take_part` at once; thread-safe."""
        self._call(self._awake.set)

    async def take_part(self, is_over: Callable[[], bool]) -> None:
        """Take part in the scope until `is_over()` is true, which is checked in each cycle and after `wake`."""
        self._loop = asyncio.get_running_loop()
        self.governor.scope.listen(self._on_rate_limit)
        try:
            async with get_client(httpx_settings={"limits": _CONNECTIONS}) as client:
                records = MemberRecords(client, self.scope, self._member.id)
                listening = asyncio.create_task(self._listen(records))
                try:
                    while not is_over():
                        await self._run_cycle_if_due(records)
                        await self._sleep()
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
                    await self._best_effort(asyncio.wait_for(records.leave(), END_SECONDS))
        finally:
            self.governor.scope.ignore(self._on_rate_limit)
            self.governor.scope.set_share(1.0)
            self.has_share.set()

    async def _run_cycle_if_due(self, records: MemberRecords) -> None:
        if pause := self._unpublished:
            self._unpublished = None
            with suppress(Exception):  # the record contains it, too
                await records.publish_pause(pause)
            if not self._receives_events:  # other processes may receive no events either
                await self._best_effort(self._write(records))
        if self._cycles_to_limits <= 0:
            self._cycles_to_limits = LIMITS_EVERY_WITH_EVENTS if self._receives_events else LIMITS_EVERY
            await self._best_effort(self._read_limits(records))
        if time.monotonic() >= self._next_cycle:
            self._cycles_to_limits -= 1
            await self._best_effort(self._cycle(records))
            self._next_cycle = time.monotonic() + self._member.cycle_seconds
            self.has_share.set()

    async def _sleep(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), max(0.0, self._next_cycle - time.monotonic()))
        self._awake.clear()

    async def _cycle(self, records: MemberRecords) -> None:
        self._member.sample_usage(time.monotonic())
        for _ in range(ROUNDS):
            await self._write(records)
            if not self._member.on_reports(await records.read(), time.monotonic()):
                break

    async def _write(self, records: MemberRecords) -> None:
        sent = time.monotonic()
        await records.write(self._member.report(sent))
        self._member.on_written(sent, time.monotonic())

    async def _read_limits(self, records: MemberRecords) -> None:
        self._use_stated(await records.read_limits())

    def _use_stated(self, stated: StatedLimits) -> None:
        try:
            self._stated = None if stated.value is None else from_value(stated.value)
        except ValueError as error:
            name = variable_name(self.scope)
            self._warn_once(f"the Variable {name} has no valid limits: {one_line(error)}")
        self._set_limits()

    def _set_limits(self) -> None:
        self.governor.set_limits(merged(self._stated, self._own))
        for sentence in conflicts(self.scope, self._stated, self._own):
            if sentence not in self._warned:
                self._warned.add(sentence)
                logger.warning(sentence)

    # Cooldowns.

    def _on_rate_limit(self, until: float) -> None:
        self._call(self._rate_limited, until, time.monotonic())

    def _rate_limited(self, until: float, now: float) -> None:
        self._unpublished = self._member.on_rate_limit(until, now)
        self._awake.set()

    async def _listen(self, records: MemberRecords) -> None:
        while True:
            try:
                async with records.listening() as events:
                    self._receives_events = True
                    async for event in events:
                        self._on_event(event)
                problem = "the stream ended"
            except Exception as error:
                problem = f"{type(error).__name__}: {one_line(error)}"
            self._receives_events = False
            if not self._is_unreachable:
                self._warn_once(
                    f"cannot subscribe to Prefect's events ({problem}); rate limits that other processes meet in "
                    f"{self.scope} arrive within seconds instead of at once"
                )
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _on_event(self, event: Pause | StatedLimits) -> None:
        if isinstance(event, Pause):
            self._member.on_pause(event, time.monotonic())
        else:
            self._use_stated(event)

    # Errors.

    async def _best_effort(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            if self.is_needed and not self._is_unreachable:
                self._is_unreachable = True
                problem = f"{type(error).__name__}: {one_line(error)}"
                text = (
                    "Prefect is unreachable, so the limit of %s cannot be shared (%s); calls continue at the last share"
                )
                logger.warning(text, self.scope, problem)
        else:
            if self._is_unreachable:
                self._is_unreachable = False
                logger.info("Prefect is reachable again: the limit of %s is shared", self.scope)

    def _warn_once(self, problem: str) -> None:
        if self.is_needed and problem != self._last_problem:
            self._last_problem = problem
            logger.warning(problem)

    def _call(self, do: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            if self._loop:
                self._loop.call_soon_threadsafe(do, *values)
