"""Plugins of the whole suite, and a check that a test leaves no asyncio task behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, Generator

import pytest

pytest_plugins = [
    "tests.support.environment",
    "tests.support.selection",
    "tests.support.started_processes",
    "tests.support.prefect_server",
    "tests.support.distribution",
]


def pytest_collection() -> None:
    """Collect no garbage while tests are imported, which takes an eighth of the time, and leaves little."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave out of garbage collections what is imported now: a third of a second for each that goes through it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def loop_of_the_thread() -> Generator[None]:
    """Set an event loop that is closed at the end; pytest-asyncio would make one before each coroutine and lose it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(autouse=True)
def no_task_is_left(request: pytest.FixtureRequest) -> None:
    """Check a test that is a coroutine; other tests need no event loop, which takes a few milliseconds to make."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("tasks_are_done")


@pytest.fixture
async def tasks_are_done(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    """Fail a test that leaves an asyncio task behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {task for task in [asyncio.current_task()] if task is not None}
    assert not left, f"{request.node.name} left tasks behind: {left}"
