"""The marker `whole`: tests that take long are left to `pytest -m whole`; pytest loads this as a plugin.

The quick run (`pytest`, which has `-m "not whole"` in pyproject.toml) says in its last line how many tests it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

QUICK = "not whole"
EXAMPLES = 100
QUICK_EXAMPLES = 15
"""Examples that Hypothesis tries in the quick run; `pytest -m "whole or hypothesis"` tries `EXAMPLES`."""

MARKERS = (
    "whole: takes long or measures; runs with `pytest -m whole`, and with all others with `pytest -m ''`",
    "shell: depends on the shell that pytest is started from; tests/anywhere runs it from many",
    "sample(n): the quick run takes n of the test's parameter sets, evenly spread; the others are marked `whole`",
)
LEFT: pytest.StashKey[int] = pytest.StashKey()
WORKER_OUTPUT = "left_to_whole"


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[LEFT] = 0
    number = QUICK_EXAMPLES if config.option.markexpr == QUICK else EXAMPLES
    # Both are measured in wall time, of which a busy machine has little.
    unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("tests", unhurried, max_examples=number)
    settings.load_profile("tests")


def examples(number: int) -> settings:
    """Let Hypothesis try `number` examples instead of `EXAMPLES`; in the quick run, as many fewer as elsewhere."""
    default = settings.default
    assert default is not None
    return settings(max_examples=max(5, number * default.max_examples // EXAMPLES))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `sample` leaves as `whole`; which parameter sets it takes does not depend on their order in the run."""
    series: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sample"):
            series.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for tests in series.values():
        mark = tests[0].get_closest_marker("sample")
        assert mark is not None
        (number,) = mark.args
        taken = {round(index * (len(tests) - 1) / max(number - 1, 1)) for index in range(number)}
        for index, item in enumerate(sorted(tests, key=_parameter_indices)):
            if index not in taken:
                item.add_marker(pytest.mark.whole)


def _parameter_indices(item: pytest.Item) -> list[int]:
    callspec: Any = getattr(item, "callspec", None)
    return [] if callspec is None else list(callspec.indices.values())


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what the quick run leaves; with xdist, a worker reports its count to the controller."""
    if items:
        config = items[0].config
        config.stash[LEFT] += sum(item.get_closest_marker("whole") is not None for item in items)
        if (output := getattr(config, "workeroutput", None)) is not None:
            output[WORKER_OUTPUT] = config.stash[LEFT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Read the count of a worker of xdist: all workers have the same one."""
    left: int = getattr(node, "workeroutput", {}).get(WORKER_OUTPUT, 0)
    node.config.stash[LEFT] = max(node.config.stash[LEFT], left)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A file that has tests of the whole run only is no error in the quick run."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.stash[LEFT]:
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Write the last line."""
    left = config.stash.get(LEFT, 0)
    is_quick = config.option.markexpr == QUICK
    if left and is_quick and not hasattr(config, "workerinput"):
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        noun = "test is" if left == 1 else "tests are"
        if terminal is not None:
            terminal.write_line(f"{left:,} {noun} left to `uv run pytest -m whole`")
