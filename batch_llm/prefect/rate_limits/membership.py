"""A process's member of one scope, at work: its cycles at the Prefect server, the pauses it tells and hears of."""

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

from .member_records import Board, Stated
from .stated_limits import conflicts, from_value, merged, variable_name

logger = logging.getLogger(__name__)

LIMITS_EVERY = 3
LIMITS_EVERY_WHEN_TOLD = 12
"""Cycles between two looks at the stated limits; where events are heard, each change is told of as it happens."""

LISTEN_AGAIN_SECONDS = 30.0
_CONNECTIONS = httpx.Limits(max_connections=2, keepalive_expiry=2.0)
"""A server closes what is idle for 5 s, about our cycle: a request must not meet that moment."""

END_SECONDS = 5.0
"""For giving the share back; what is not given back by then expires."""


class Membership:
    """Talks to the server in a loop of its own, so that calls wait for nothing but the governor.

    Attributes:
        scope: Names the limit.
        governor: What it steers.
        has_share: Set when the first share is known, or the server does not answer.
        is_needed: Whether anybody makes calls; what goes wrong meanwhile is of no interest otherwise.
    """

    def __init__(self, scope: str, governor: Governor) -> None:
        self.scope, self.governor = scope, governor
        self.has_share = Event()
        self.is_needed = True
        self._member = ScopeMember(uuid4().hex, governor, time.monotonic())
        self._own = governor.limits
        self._stated: Limits | None = None
        self._untold: Pause | None = None
        self._next_cycle = 0.0
        self._cycles_to_limits = 0
        self._hears = self._is_away = False
        self._trouble = ""
        self._told = set[str]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake = asyncio.Event()

    def set_limits(self, limits: Limits) -> None:
        """Take these as the limits of the job, from any thread; of what is set for the scope, the lower applies."""
        self._own = limits
        self._set_limits()

    def wake(self) -> None:
        """Look at once whether it is over, from any thread."""
        self._call(self._awake.set)

    async def live(self, is_over: Callable[[], bool]) -> None:
        """Be a member until `is_over()`, which is asked at each cycle and when woken."""
        self._loop = asyncio.get_running_loop()
        self.governor.listen(self._tell_soon)
        try:
            async with get_client(httpx_settings={"limits": _CONNECTIONS}) as client:
                board = Board(client, self.scope, self._member.id)
                listening = asyncio.create_task(self._listen(board))
                try:
                    while not is_over():
                        await self._work(board)
                        await self._rest()
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
                    await self._contained(asyncio.wait_for(board.leave(), END_SECONDS))
        finally:
            self.governor.ignore(self._tell_soon)
            self.governor.set_share(1.0)
            self.has_share.set()

    async def _work(self, board: Board) -> None:
        if pause := self._untold:
            self._untold = None
            with suppress(Exception):  # the record tells the same, later
                await board.tell(pause)
            if not self._hears:  # nor do others, perhaps
                await self._contained(self._write(board))
        if self._cycles_to_limits <= 0:
            self._cycles_to_limits = LIMITS_EVERY_WHEN_TOLD if self._hears else LIMITS_EVERY
            await self._contained(self._read_limits(board))
        if time.monotonic() >= self._next_cycle:
            self._cycles_to_limits -= 1
            await self._contained(self._cycle(board))
            self._next_cycle = time.monotonic() + self._member.cycle_seconds
            self.has_share.set()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), max(0.0, self._next_cycle - time.monotonic()))
        self._awake.clear()

    async def _cycle(self, board: Board) -> None:
        self._member.sample_usage(time.monotonic())
        for _ in range(ROUNDS):
            await self._write(board)
            if not self._member.on_reports(await board.read(), time.monotonic()):
                break

    async def _write(self, board: Board) -> None:
        sent = time.monotonic()
        await board.write(self._member.report(sent))
        self._member.on_written(sent, time.monotonic())

    async def _read_limits(self, board: Board) -> None:
        self._state(await board.read_limits())

    def _state(self, stated: Stated) -> None:
        try:
            self._stated = None if stated.value is None else from_value(stated.value)
        except ValueError as error:
            name = variable_name(self.scope)
            self._say_once(f"The Variable {name} states no limits that can be read: {one_line(error)}")
        self._set_limits()

    def _set_limits(self) -> None:
        self.governor.set_limits(merged(self._stated, self._own))
        for sentence in conflicts(self.scope, self._stated, self._own):
            if sentence not in self._told:
                self._told.add(sentence)
                logger.warning(sentence)

    # Pauses.

    def _tell_soon(self, until: float) -> None:
        self._call(self._refused, until, time.monotonic())

    def _refused(self, until: float, now: float) -> None:
        self._untold = self._member.on_rate_limit(until, now)
        self._awake.set()

    async def _listen(self, board: Board) -> None:
        while True:
            try:
                async with board.listening() as events:
                    self._hears = True
                    async for event in events:
                        self._hear(event)
                problem = "the stream ended"
            except Exception as error:
                problem = f"{type(error).__name__}: {one_line(error)}"
            self._hears = False
            if not self._is_away:
                self._say_once(
                    f"Prefect's events cannot be listened to ({problem}); what others meet at the limit of "
                    f"{self.scope} is heard of within seconds, not at once"
                )
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def _hear(self, event: Pause | Stated) -> None:
        if isinstance(event, Pause):
            self._member.on_pause(event, time.monotonic())
        else:
            self._state(event)

    # What may go wrong.

    async def _contained(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            if self.is_needed and not self._is_away:
                self._is_away = True
                problem = f"{type(error).__name__}: {one_line(error)}"
                text = "The limit of %s cannot be shared now, as Prefect is away (%s); calls go on at the last share"
                logger.warning(text, self.scope, problem)
        else:
            if self._is_away:
                self._is_away = False
                logger.info("Prefect is back: the limit of %s is shared again", self.scope)

    def _say_once(self, trouble: str) -> None:
        if self.is_needed and trouble != self._trouble:
            self._trouble = trouble
            logger.warning(trouble)

    def _call(self, do: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            if self._loop:
                self._loop.call_soon_threadsafe(do, *values)
