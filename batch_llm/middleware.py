"""Middleware: hooks that may change an item before its call and its result afterwards."""

from __future__ import annotations

from abc import ABC

from .items import AnyResult, AnyWorkItem


class Middleware(ABC):  # noqa: B024  every hook has a default, so a subclass writes only what it needs
    """Hooks around each item; several middlewares run in order before the call and in reverse order after it.

    If a hook raises, the error is logged and the item continues unchanged.

    Example:
        class Shorten(BaseMiddleware):
            async def before_process(self, work_item: AnyWorkItem) -> AnyWorkItem:
                return dataclasses.replace(work_item, prompt=work_item.prompt[:4000])
    """

    async def before_process(self, work_item: AnyWorkItem) -> AnyWorkItem | None:
        """Return the item to process, with the same id, or None to skip it: it then fails without a call."""
        return work_item

    async def after_process(self, work_item: AnyWorkItem, result: AnyResult) -> AnyResult:
        """Return the result to report; called for successes, failures and skipped items."""
        return result

    async def on_error(self, work_item: AnyWorkItem, error: Exception) -> None:  # noqa: B027  as above
        """Handle the error of a failed item; called once, before `after_process`."""


class BaseMiddleware(Middleware):
    """Middleware that changes nothing: derive from it and override the hooks you need."""
