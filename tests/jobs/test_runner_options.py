"""Runners of a job."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import plan
from tests.support.jobs import documents, job


@pytest.mark.parametrize(("runner", "package"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_missing_package_of_a_runner_is_reported_before_planning(
    home: Path, monkeypatch: pytest.MonkeyPatch, runner: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    documents(home, a="x")
    with pytest.raises(JobError, match=rf"^runner '{runner}' needs a package: pip install 'batch-llm\[{runner}\]'$"):
        plan(job(runner=runner), "r")
    assert [path.name for path in home.iterdir()] == ["docs.jsonl"]
