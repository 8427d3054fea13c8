"""Early stops of a run: calls in flight may finish, results are written, the remaining items are not attempted.

    cause                                 what reaches the run                        final state
    Cancel in the UI, a runner or worker  SIGTERM, `TerminationSignal` in the flow    Cancelled, by the runner
    a machine that is drained             SIGTERM, `TerminationSignal` in the flow    Crashed, by Prefect's engine
    Ctrl-C                                `KeyboardInterrupt` in the flow             Crashed, by Prefect's engine
    a shard that meets a fatal error      the stop file of the run's folder           Failed, by `final_state`
    `batch-llm run`                       the stop file of the run's folder           Cancelled, by `final_state`
    a budget that is used up              the stop file of the run's folder           BudgetReached, by `final_state`
    a canary that fails or costs too much the stop file of the run's folder           Failed, by `final_state`

Prefect sends SIGKILL 30 s after SIGTERM, and so does Kubernetes.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal

from batch_llm.jobs import StopKind, request_stop

from .best_effort import best_effort

GRACE_SECONDS = 10.0
"""Seconds for calls in flight after a stop request."""

LOOK_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stop:
    """A request to stop a run.

    Attributes:
        text: Reason for the message of the run.
        kind: Kind of the reason: a user's request, a fatal error, the budget or the canary.
    """

    text: str
    kind: StopKind


def read_stop(folder: str | Path) -> Stop | None:
    """Return the stop request in a run's folder; None if there is none."""
    try:
        asked = json.loads((Path(folder) / "stop").read_text())
    except FileNotFoundError:
        return None
    reason, kind = asked["reason"], asked["kind"]
    return Stop(f"stopped by {reason}" if kind == "asked" else reason, kind)


class GracefulStop:
    """Handler of signals: the first one stops the run gracefully, a second one at once.

    Args:
        folder: The run's folder.
        here: Whether only this process stops, and other runners may continue its shards.

    Attributes:
        signal: Signal that was received, to be raised again when everything is written.
    """

    def __init__(self, folder: str, *, here: bool = False) -> None:
        self.signal: BaseException | None = None
        self._folder, self._here = folder, here

    def run(self, work: Callable[[], T]) -> T:
        """Call `work`; after the first signal, request a stop and call `work` again for the rest."""
        try:
            return work()
        except (TerminationSignal, KeyboardInterrupt) as signal:
            if self.signal is not None:
                raise
            self.signal = signal
            request_stop(self._folder, _stop_reason(signal), here=self._here)
            return work()


def _stop_reason(signal: BaseException) -> str:
    if isinstance(signal, KeyboardInterrupt):
        return "Ctrl-C"
    context = FlowRunContext.get()
    with best_effort():
        if context and context.flow_run and _is_cancelling(context.flow_run.id):
            return "cancellation in the UI"
    return "SIGTERM"


def _is_cancelling(run_id: Any) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


async def within_grace(folder: str, run: Callable[[], Awaitable[T]]) -> T:
    """Await `run()`; cancel it when the run is stopping and the time for calls in flight is over.

    After a cancellation `run()` is awaited once more: with the stop request present it makes no calls and returns the
    outcome so far.
    """
    work = asyncio.ensure_future(run())
    grace = _Grace(Path(folder))
    while not (await asyncio.wait([work], timeout=LOOK_SECONDS))[0]:
        if grace.is_over():
            work.cancel()
            await asyncio.wait([work])
            return await run() if work.cancelled() else work.result()
    return work.result()


class _Grace:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends = float("inf")

    def is_over(self) -> bool:
        """Return whether the time after a stop request is over; the end of the flow's process is a request, too."""
        if is_orphan() and not (self._folder / "stop").exists():
            request_stop(self._folder, "the end of the flow's process")
        if (self._folder / "stop").exists():
            self._ends = min(self._ends, time.monotonic() + GRACE_SECONDS)
        return time.monotonic() > self._ends


def is_elsewhere() -> bool:
    """Return whether this process runs a shard of a flow in another process."""
    context = FlowRunContext.get()
    return context is not None and context.detached


def is_orphan() -> bool:
    """Return whether this is a process of a pool whose flow has exited, so that it would never exit itself.

    A Ray process exits with its flow. In a cluster that outlives the flow, a shard stops when another run takes over
    the ledger.
    """
    parent = multiprocessing.parent_process()
    return is_elsewhere() and parent is not None and not parent.is_alive()
