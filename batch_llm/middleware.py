"""What may change an item before its call and its result afterwards."""

from __future__ import annotations

from abc import ABC

from .items import AnyResult, AnyWorkItem


class Middleware(ABC):  # noqa: B024  every hook has a default, so a subclass writes only what it needs
    """Hooks around one item; several run in their order before the call and in reverse after it.

    A hook that raises is logged, and the item goes on as it was.
    """

    async def before_process(self, work_item: AnyWorkItem) -> AnyWorkItem | None:
        """Return the item to process, which keeps its id, or None to skip it: it then fails without a call."""
        return work_item

    async def after_process(self, work_item: AnyWorkItem, result: AnyResult) -> AnyResult:
        """Return the result to report; called for successes, failures and skipped items."""
        return result

    async def on_error(self, work_item: AnyWorkItem, error: Exception) -> None:  # noqa: B027  as above
        """Look at the error that an item failed with, once, before `after_process`."""


class BaseMiddleware(Middleware):
    """A middleware that changes nothing: derive from it and write the hooks you need."""
