"""Where the items of a stream come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TypeAlias

from . import _cancellation
from .items import AnyWorkItem

Source: TypeAlias = Iterable[AnyWorkItem] | AsyncIterable[AnyWorkItem]


async def pull(source: Source) -> AsyncGenerator[AnyWorkItem]:
    """Yield the items of `source`, and close it at the end where it can be closed.

    Raises:
        Exception: What `source` raises.
        RuntimeError: `source` raised a `CancelledError` by itself, which must not look like its end.
    """
    try:
        if isinstance(source, AsyncIterable):
            async for item in source:
                yield item
        else:
            for item in source:
                yield item
    except asyncio.CancelledError as error:
        if _cancellation.is_requested():
            raise
        raise RuntimeError("the source of the stream raised CancelledError by itself") from error
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
