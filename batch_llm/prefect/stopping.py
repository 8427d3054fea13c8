"""A run that is to end early: calls in flight get some time, what there is gets written, the rest is left.

    who                                   what reaches the run                        then the state is
    Cancel in the UI, a runner or worker  SIGTERM, `TerminationSignal` in the flow    Cancelled, by the runner
    a machine that is drained             the same                                    Crashed, by Prefect's engine
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

from .best_effort import contained

GRACE_SECONDS = 10.0
"""For calls in flight to end, after the run was asked to stop."""

LOOK_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stop:
    """What a run was asked.

    Attributes:
        text: Why it ends early, for its message.
        kind: Whether somebody asked, or the run cannot go on, or its budget is used up, or its canary ends it.
    """

    text: str
    kind: StopKind


def read_stop(folder: str | Path) -> Stop | None:
    """Return what the run in `folder` was asked, if it was."""
    try:
        asked = json.loads((Path(folder) / "stop").read_text())
    except FileNotFoundError:
        return None
    reason, kind = asked["reason"], asked["kind"]
    return Stop(f"stopped by {reason}" if kind == "asked" else reason, kind)


class GracefulStop:
    """Carries a run through the first signal that asks for its end; a second one ends it where it is.

    Args:
        folder: The run's folder.
        here: Whether others may go on with what is carried here.

    Attributes:
        signal: What asked for the end, to be raised again when everything is written.
    """

    def __init__(self, folder: str, *, here: bool = False) -> None:
        self.signal: BaseException | None = None
        self._folder, self._here = folder, here

    def through(self, work: Callable[[], T]) -> T:
        """Do `work`; after the first signal ask the run to stop, and do the rest of it."""
        try:
            return work()
        except (TerminationSignal, KeyboardInterrupt) as signal:
            if self.signal is not None:
                raise
            self.signal = signal
            request_stop(self._folder, _who_asks(signal), here=self._here)
            return work()


def _who_asks(signal: BaseException) -> str:
    if isinstance(signal, KeyboardInterrupt):
        return "Ctrl-C"
    context = FlowRunContext.get()
    with contained():
        if context and context.flow_run and _is_cancelling(context.flow_run.id):
            return "cancellation in the UI"
    return "SIGTERM"


def _is_cancelling(run_id: Any) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


async def within_grace(folder: str, run: Callable[[], Awaitable[T]]) -> T:
    """Await `run()`, cut off when the run was asked to stop and the time for calls in flight is over.

    What was cut off is asked once more: while the stop stands it makes no call, and tells what there is.
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
        """Whether the run was asked to stop so long ago; a flow whose process is gone asks by that."""
        if is_orphan() and not (self._folder / "stop").exists():
            request_stop(self._folder, "the end of the flow's process")
        if (self._folder / "stop").exists():
            self._ends = min(self._ends, time.monotonic() + GRACE_SECONDS)
        return time.monotonic() > self._ends


def is_elsewhere() -> bool:
    """Whether this process carries a shard for a flow in another one."""
    context = FlowRunContext.get()
    return context is not None and context.detached


def is_orphan() -> bool:
    """Whether this is the process of a pool whose flow is gone: nobody waits for it, and it would never end.

    A Ray process ends with its flow by itself. Where a cluster outlives the flow, a shard stops when another run takes
    the ledger over.
    """
    parent = multiprocessing.parent_process()
    return is_elsewhere() and parent is not None and not parent.is_alive()
