"""Which worker of xdist runs which tests, and in which order; pytest loads this as a plugin.

Files are given to workers in the order of the tests. In the quick run, one worker runs all tests that use a Prefect
server: they wait most of the time, the other worker computes meanwhile, and there is no second server to start. The
whole run has so many of them that each worker has a server.
"""

from __future__ import annotations

from typing import Any

import pytest

from .selection import QUICK


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest, so that no worker has it for itself at the end."""
    items.sort(key=_weight, reverse=True)


def _weight(item: pytest.Item) -> tuple[bool, bool, bool]:
    return "tests/docs/" in item.nodeid, "tests/reliability/" in item.nodeid, bool(item.get_closest_marker("prefect"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler of the quick run; other runs have the one that `--dist` names."""
    if config.option.markexpr != QUICK:
        return None
    from xdist.scheduler import LoadFileScheduling

    class OnePrefectServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "prefect" if "mark.prefect" in (config.rootpath / file).read_text(encoding="utf-8") else file

    return OnePrefectServer(config, log)
