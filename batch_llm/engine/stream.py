"""Source of a stream's items."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import TypeAlias

from batch_llm.items import AnyWorkItem

from . import cancellation
from .user_values import check_is_item
from .workers import WorkerPool

Source: TypeAlias = Iterable[AnyWorkItem] | AsyncIterable[AnyWorkItem]


async def pull(source: Source) -> AsyncGenerator[AnyWorkItem]:
    """Yield the items of `source`, and close it afterwards if it is an async generator.

    Raises:
        Exception: Any error of `source`.
        RuntimeError: `source` raised a `CancelledError` by itself, which must not look like a cancellation of the run.
    """
    try:
        if isinstance(source, AsyncIterable):
            async for item in source:
                yield item
        else:
            for item in source:
                yield item
    except asyncio.CancelledError as error:
        if cancellation.is_requested():
            raise
        raise RuntimeError("the source of the stream raised CancelledError by itself") from error
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def feed(source: Source, workers: WorkerPool) -> BaseException | None:
    """Add the items of `source` to `workers` as slots become free; return the error of `source`, or None.

    Raises:
        asyncio.CancelledError: The run was cancelled or stopped.
    """
    try:
        queue = workers.queue
        async with aclosing(pull(source)) as items:
            await queue.room()
            async for item in items:
                check_is_item(item)
                workers.put(item)
                if queue.is_full:
                    await queue.room()  # before the next one is pulled
                if not workers.is_feeding:  # a source that never waits is not cancelled
                    break
    except (*cancellation.NEVER_SUPPRESSED, asyncio.CancelledError):
        raise
    except BaseException as error:
        return error
    return None
