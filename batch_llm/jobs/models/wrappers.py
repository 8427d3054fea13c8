"""Strategies that wrap other strategies: one that closes the client of a job, and one that balances load."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from batch_llm.errors import CallFailed, RedirectRefused, ResponseTooLarge
from batch_llm.strategies.base import LLMCallStrategy

from .reply_usage import billed_tokens

if TYPE_CHECKING:
    import httpx2

latest_reply: ContextVar[httpx2.Response | None] = ContextVar("latest_reply", default=None)
"""The latest reply with a success status that a call in this context received, before it is normalized."""

_LONGEST_QUOTE = 300
_OF_A_PARSER = (TypeError, AttributeError, LookupError, AssertionError, RecursionError)


class ClientOwningStrategy(LLMCallStrategy[Any]):
    """Strategy that calls another strategy, and opens and closes its client.

    Args:
        calls: Strategy that makes the calls.
        client: Client of that strategy: entered before the first call, exited after the last one.
    """

    def __init__(self, calls: LLMCallStrategy[Any], client: AbstractAsyncContextManager[Any]) -> None:
        self._calls = calls
        self._client = client
        self._open = AsyncExitStack()

    async def prepare(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._client)
            try:
                await self._calls.prepare()
            except Exception as error:
                _raise_refusal(error)
                raise
            stack.push_async_callback(self._calls.cleanup)
            self._open = stack.pop_all()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        latest_reply.set(None)
        try:
            return await self._calls.execute(prompt, attempt, timeout)
        except Exception as error:
            _raise_refusal(error)
            _raise_unreadable(error)
            raise
        finally:
            latest_reply.set(None)

    async def cleanup(self) -> None:
        await self._open.aclose()


def _raise_refusal(error: Exception) -> None:
    """Raise the refusal of our HTTP client if it caused `error`, which SDKs report as a connection error."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ResponseTooLarge | RedirectRefused):
        inner = inner.__cause__
    if inner is not None:
        raise CallFailed(inner, error.token_usage) if isinstance(error, CallFailed) else inner from None


def _raise_unreadable(error: Exception) -> None:
    """Raise an error with the tokens of the reply that the client rejected, if it caused `error`.

    The `TypeError` of a client that cannot read a reply becomes a `ValueError`, so that the call is made again.
    """
    reply = latest_reply.get()
    if reply is None or isinstance(error, CallFailed):
        return
    cause: Exception = error
    if isinstance(error, _OF_A_PARSER):
        text = " ".join(reply.text.split())[:_LONGEST_QUOTE]
        cause = ValueError(f"the client cannot read the reply ({type(error).__name__}: {error}): {text}")
    if tokens := billed_tokens(reply):
        raise CallFailed(cause, tokens) from error
    if cause is not error:
        raise cause from error


class LeastBusyStrategy(LLMCallStrategy[Any]):
    """Strategy that makes each call through the strategy with the fewest calls in flight.

    Args:
        ways: Strategies to choose from.
    """

    def __init__(self, ways: Sequence[LLMCallStrategy[Any]]) -> None:
        self._ways = ways
        self._in_flight = [0] * len(ways)
        self._open = AsyncExitStack()

    async def prepare(self) -> None:
        async with AsyncExitStack() as stack:
            for way in self._ways:
                await way.prepare()
                stack.push_async_callback(way.cleanup)
            self._open = stack.pop_all()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Any, dict[str, int]]:
        idlest = min(range(len(self._ways)), key=self._in_flight.__getitem__)
        self._in_flight[idlest] += 1
        try:
            return await self._ways[idlest].execute(prompt, attempt, timeout)
        finally:
            self._in_flight[idlest] -= 1

    async def cleanup(self) -> None:
        await self._open.aclose()
