"""Short versions of two benchmarks of complete runs, on the session's Prefect server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.million import bounds, watched
from tests.benchmarks.prefect_process import PrefectProcess
from tests.benchmarks.second_run import write_source
from tests.benchmarks.simulated import SCENARIOS, compare
from tests.benchmarks.watching import descendants

pytestmark = pytest.mark.prefect


@pytest.fixture
def server(prefect_api: str) -> PrefectProcess:
    """Return the session's server in the form that the benchmarks use."""
    pid = next(each for each in descendants(os.getpid()) if b"\0server\0start\0" in _command(each))
    return PrefectProcess(dict(os.environ), pid, Path(os.environ["PREFECT_HOME"]))


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.whole
def test_run_of_the_flow_reports_memory_and_the_size_of_prefects_database(
    server: PrefectProcess, tmp_path: Path
) -> None:
    write_source(tmp_path, 300, changed=False)
    run = watched(server, tmp_path, workers=10)
    assert (run.succeeded, [bound.holds for bound in bounds(300, run)]) == (300, [True] * 4)
    assert min(run.flow_mb, run.server_mb, run.idle_mb, run.plan_seconds, run.publish_seconds) > 0


@pytest.mark.whole
def test_forecast_of_a_run_is_close_to_the_run(server: PrefectProcess) -> None:
    """Time, memory and CPU, which depend on other processes, are checked only by the benchmark."""
    pair = compare("limit", replace(SCENARIOS["limit"], items=200), server)
    figures = {name: pair.figures()[name] for name in ("calls", "refused", "tokens", "USD")}
    assert [name for name in figures if not pair.holds(name)] == [], figures
    assert pair.real.seconds > 0.85 * pair.forecast.call_seconds
