"""Base class of the outputs: check that it is writable, replace it as a whole, remove it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from batch_llm.jobs.storage.duckdb_session import Tables


def nothing() -> None:
    """Do nothing."""


class Sink(ABC):
    """Output of a job. A reader sees either the previous content, or all new rows.

    Example:
        >>> sink = open_sink(OutputPlace.parse("answers.jsonl"))
        >>> sink.check(["id", "answer"])
        >>> sink.write(tables, ["SELECT id, answer FROM outcomes"])
        '/home/me/answers.jsonl'
    """

    @abstractmethod
    def check(self, columns: Iterable[str]) -> None:
        """Check that the output can be written.

        Args:
            columns: Columns of the rows to be written, as far as they are known.

        Raises:
            JobError: The output cannot be written.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether the output exists.

        Raises:
            JobError: The file system or the server cannot be reached.
        """

    @abstractmethod
    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        """Replace the output by the rows of queries, one query after another.

        Args:
            tables: The session that runs the queries.
            queries: At least one query; all queries have the same columns.
            before: Called right before the existing output is replaced; an exception leaves it unchanged.

        Returns:
            The absolute path, or the URL, of the output.

        Raises:
            JobError: The output cannot be written.
        """

    @abstractmethod
    def remove(self) -> None:
        """Remove the output of an earlier run, if it exists, and the scratch folders of killed processes next to it."""
