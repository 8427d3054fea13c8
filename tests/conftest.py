"""What every test must leave behind: nothing, but what Python compiled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

import pytest

pytest_plugins = ["tests.prefect_server"]


def pytest_configure() -> None:
    """Let the processes that tests start, hundreds, keep what they compile, also where Python is told not to."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True)
async def no_task_is_left(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    """A test that leaves an asyncio task behind fails."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {task for task in [asyncio.current_task()] if task is not None}
    assert not left, f"{request.node.name} left tasks behind: {left}"
