"""The process of a flow that `batch-llm run` starts: `python -m batch_llm.prefect.flow_engine DESCRIPTOR`.

It starts before the run exists and imports Prefect and the model's packages, while the command checks the job and finds
a server. The command then has it create the run, and this process becomes that of `python -m prefect.flow_engine`. If
the command exits first, it exits.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from .flow_channel import Channel, FlowState

CANCEL_POLL_SECONDS = 3.0
"""Seconds between two checks on the server for a cancellation."""


def main() -> int:
    """Serve the command's requests, then run the flow; return the exit code of the process."""
    gc.disable()  # imports only allocate; the collector would look through all of it again and again
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)  # the command waits for the end of this process, not of its children
    channel = Channel(connection)
    _import_all()
    run = _serve(channel)
    gc.freeze()
    gc.enable()
    if run is None:
        return 0
    threading.Thread(target=_stop_if_cancelled, args=(run["id"], Path(run["folder"])), daemon=True).start()
    try:
        return _run_flow(run["id"], run["entrypoint"])
    finally:
        _report_final_state(channel, run["id"])


def _import_all() -> None:
    from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies

    exclude_loopback_from_proxies()  # before Prefect's settings are read
    from prefect import flow_engine

    from . import batch
    from .deployment import deployments

    del flow_engine, batch, deployments


def _serve(channel: Channel) -> dict[str, Any] | None:
    """Answer requests until a run is created; return the run, or None if the command has exited."""
    from batch_llm.errors import BatchLLMError

    with suppress(OSError):  # the command has exited
        while (request := channel.receive()) is not None:
            name = request.pop("request")
            try:
                result = _REQUESTS[name](**request)
            except BatchLLMError as error:
                channel.send({"error": str(error)})
                continue
            channel.send({"result": result})
            if name == "create_run":
                return result
    return None


def _check(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check the model of a job; return Prefect's settings, and the problem if the model's key is missing."""
    from batch_llm.jobs import BatchJob
    from batch_llm.jobs.models.factory import check_model
    from batch_llm.jobs.secrets import KeyMissing

    from . import api
    from .deployment.local_server import prefect_home

    missing = ""
    try:
        check_model(BatchJob.parse(parameters))
    except KeyMissing as error:
        missing = str(error)
    return {"missing": missing, "url": api.configured_url(), "home": str(prefect_home())}


def _check_server(url: str) -> None:
    from . import api

    api.check_configured(url)


def _use_server(url: str) -> None:
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()


def _provide_key(parameters: Mapping[str, Any]) -> bool:
    from batch_llm.jobs import BatchJob

    from .secrets import provide_key

    return provide_key(BatchJob.parse(parameters))


def _create_run(block: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Register the preset and create its run; from here on, standard output is the run's log."""
    from batch_llm.errors import BatchLLMError
    from batch_llm.jobs import BatchJob, run_folder
    from batch_llm.jobs.ledger.run_folder import prepare_ledger

    from .deployment import deployments

    created = deployments.create_run(deployments.ensure_deployment(block), parameters)
    try:
        job = BatchJob.parse(created.parameters)
        folder = run_folder(job, str(created.id))
        prepare_ledger(job, folder.runs)
        _log_to(folder.path / "flow.log")
    except BatchLLMError as error:
        deployments.set_final_state(created.id, FlowState.failed(str(error)))
        raise
    return {
        "id": str(created.id),
        "url": deployments.run_url(created.id),
        "parameters": created.parameters,
        "folder": str(folder.path),
        "entrypoint": deployments.flow_entrypoint(block),
    }


_REQUESTS: dict[str, Callable[..., Any]] = {
    "check": _check,
    "check_server": _check_server,
    "use_server": _use_server,
    "provide_key": _provide_key,
    "create_run": _create_run,
}


def _log_to(log: Path) -> None:
    from batch_llm.jobs.storage.permissions import make_folder, opener

    make_folder(log.parent)
    with open(log, "ab", opener=opener) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)


def _run_flow(run_id: str, entrypoint: str) -> int:
    from prefect import flow_engine

    # Else the end of the run waits up to a second for a thread that sleeps.
    heartbeats = partial(flow_engine._send_heartbeats, join_on_exit=False)  # pyright: ignore[reportPrivateUsage]  no other
    flow_engine._send_heartbeats = heartbeats  # pyright: ignore[reportPrivateUsage]  no other
    os.environ["PREFECT__FLOW_RUN_ID"] = run_id
    return flow_engine._main([entrypoint])  # pyright: ignore[reportPrivateUsage]  what `-m prefect.flow_engine` calls


def _stop_if_cancelled(run_id: str, folder: Path) -> None:
    """Stop gracefully after Cancel in the UI: this run has no worker that would do it."""
    from batch_llm.errors import BatchLLMError
    from batch_llm.jobs import request_stop

    from .deployment import deployments

    while not _flow_ended.wait(CANCEL_POLL_SECONDS):
        with suppress(BatchLLMError, OSError):  # an unreachable server cancels nothing
            if (folder / "plan.json").exists() and deployments.is_cancelling(UUID(run_id)):
                request_stop(folder, "cancellation in the UI")


_flow_ended = threading.Event()


def _report_final_state(channel: Channel, run_id: str) -> None:
    """Send the state of the run, so that the command need not wait for the end of this process."""
    from batch_llm.errors import BatchLLMError

    from .deployment import deployments

    _flow_ended.set()
    with suppress(BatchLLMError, OSError):  # the command then reads the state itself
        if state := deployments.read_final_state(UUID(run_id)):
            channel.send({"state": [state.type, state.name, state.message]})
    channel.close()


if __name__ == "__main__":
    raise SystemExit(main())
