"""DuckDB sources: a table or a query of a database file; columns keep their types."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import DatabaseAddress
from batch_llm.jobs.storage.duckdb_session import MEMORY_LIMIT, Tables

from .duckdb_query import QuerySource


class DuckDBSource(QuerySource):
    """Rows of a table or a query in a DuckDB file, which is attached read-only."""

    def __init__(self, tables: Tables, address: DatabaseAddress) -> None:
        super().__init__(tables, address.select())
        self.database = address.path
        self._address = address

    @property
    def _label(self) -> str:
        return f"source {self._address.place!r}"

    @contextmanager
    def _session(self, target: Path, memory: str = MEMORY_LIMIT) -> Generator[Tables]:
        if not self._address.path.is_file():
            raise JobError(f"{self._address.path} does not exist: check source")
        with super()._session(target, memory) as tables:
            yield tables
