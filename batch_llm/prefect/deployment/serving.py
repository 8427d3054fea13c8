"""Serve deployments from this process, and cancel their runs when it stops."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.runner import Runner

from batch_llm.errors import JobError
from batch_llm.prefect.api import one_line

_REFUSAL = re.compile(r"Validation failed for field [^\"]*")
"""The reason in a long error of the server."""


def serve_until_signal(deployments: Iterable[RunnerDeployment], registered: Callable[[], None]) -> None:
    """Register the deployments, call `registered`, and run their flow runs until SIGTERM or Ctrl-C.

    Runs are then cancelled as in the UI, so that each writes its results. A second signal stops them at once.

    Raises:
        JobError: The server rejects the parameters of a deployment.
    """
    asyncio.run(_serve(deployments, registered))


async def _serve(deployments: Iterable[RunnerDeployment], registered: Callable[[], None]) -> None:
    # A restart must not switch off a schedule that a user switched on.
    runner = _Runner(pause_on_shutdown=False)
    for deployment in deployments:
        try:
            await runner.aadd_deployment(deployment)
        except DeploymentApplyError as error:
            found = _REFUSAL.search(str(error))
            raise JobError(f"preset {deployment.name!r}: {one_line(found[0] if found else error)}") from error
    registered()
    signal.signal(signal.SIGINT, runner.handle_sigterm)
    await runner.start()


class _Runner(Runner):
    # Prefect's own handler does not await a coroutine and exits, which kills the runs.
    _ending: Future[Any] | None = None

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        if self._ending is not None:
            raise KeyboardInterrupt
        self._ending = self.execute_in_background(self.astop)
