"""What every output does: show itself writable, appear as a whole, and make way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from batch_llm.jobs.storage.duckdb_session import Tables


def nothing() -> None:
    """Do nothing."""


class Sink(ABC):
    """Where rows go. A reader sees what was there before, or all of the new rows."""

    @abstractmethod
    def check(self, columns: Iterable[str]) -> None:
        """See that it can be written.

        Args:
            columns: What the rows will have, as far as it is known.

        Raises:
            JobError: It cannot.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is something in its place.

        Raises:
            JobError: It cannot be looked at.
        """

    @abstractmethod
    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        """Put the rows of some queries, one after another, in the place of what is there.

        Args:
            tables: The session to ask.
            queries: At least one; all have the same columns.
            before: Called right before what is there is replaced; what it raises leaves that as it is.

        Returns:
            Where they are, in full.

        Raises:
            JobError: They cannot be written.
        """

    @abstractmethod
    def remove(self) -> None:
        """Remove what an earlier run wrote, if there is something."""
