"""Plugins of the suite, and a check that no test leaves an asyncio task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

pytest_plugins = [
    "tests.support.environment",
    "tests.support.selection",
    "tests.support.started_processes",
    "tests.support.prefect_server",
]


@pytest.fixture(autouse=True)
async def no_task_is_left(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    """Fail a test that leaves an asyncio task behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {task for task in [asyncio.current_task()] if task is not None}
    assert not left, f"{request.node.name} left tasks behind: {left}"
