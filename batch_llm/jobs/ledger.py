"""The ledger: what is done, item by item. Append-only, one writer a file, read forgivingly."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from batch_llm.errors import FATAL_CATEGORIES

from .files import read_lines, to_json
from .folder import RunFolder
from .tables import Tables, text

Status: TypeAlias = Literal["succeeded", "failed", "skipped"]
INVALID_INPUT = "invalid_input"
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""An answer of a model is some megabytes at most; DuckDB sets aside twice this for each thread that reads."""

# How DuckDB reads a record; the names are those of `Record`.
_COLUMNS = {
    "id": "VARCHAR",
    "key": "VARCHAR",
    "status": "VARCHAR",
    "output": "JSON",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cached_input_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
    "attempts": "BIGINT",
    "seconds": "DOUBLE",
    "category": "VARCHAR",
    "error": "VARCHAR",
    "retryable": "BOOLEAN",
    "finished_at": "TIMESTAMPTZ",
}
_values = attrgetter(*_COLUMNS)


@dataclass(slots=True)  # not frozen: one is made for every item, and that takes six times as long
class Record:
    """What became of one item in one try of its shard.

    Attributes:
        cost_usd: None where the model's price is not known.
        attempts: Calls made.
        retryable: Whether the failure can pass.
        finished_at: ISO 8601, UTC.
    """

    id: str
    key: str
    status: Status
    output: Any = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cost_usd: float | None = 0.0
    attempts: int = 0
    seconds: float = 0.0
    category: str | None = None
    error: str | None = None
    retryable: bool = False
    finished_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    def settled(self, *, retry_failed: bool) -> bool:
        """Whether the item needs no further call.

        A fatal failure (a bad key, an empty account) says nothing of the item, so it never settles one.
        """
        if self.status != "failed":
            return True
        return self.category not in FATAL_CATEGORIES and not (retry_failed and self.retryable)


class LedgerWriter:
    """Appends records to a file of its own; use it as a context manager.

    Args:
        folder: The run's folder.
        part: What the records are of: a shard's number in five digits, or "plan".
    """

    def __init__(self, folder: RunFolder, part: str) -> None:
        folder.ledger.mkdir(parents=True, exist_ok=True)
        self.path = folder.ledger / f"{part}-{uuid.uuid4().hex}.jsonl"
        self._file = self.path.open("xb", buffering=0)
        self._torn = False
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []

    def append(self, *records: Record) -> None:
        """Add records; when this returns, they outlive the process.

        Raises:
            OSError: The disk is full or the folder is gone.
        """
        # Field by field: asdict() would copy the output.
        lines = [to_json(dict(zip(_COLUMNS, _values(record), strict=True))) for record in records]
        left = memoryview("\n".join(["", *lines, ""] if self._torn else [*lines, ""]).encode())
        self._torn = True  # unless all of it gets there: what follows must not be glued to half a line
        while left:
            left = left[self._file.write(left) :]
        self._torn = False

    async def commit(self, record: Record) -> None:
        """Add a record with all that other callers add meanwhile; when this returns, it outlives the process.

        Raises:
            OSError: The disk is full or the folder is gone.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._commit)
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((record, written))
        await written

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, []
        error: OSError | None = None
        try:
            self.append(*(record for record, _ in waiting))
        except OSError as raised:
            error = raised
        for _, written in waiting:
            if written.done():
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def shard_part(index: int) -> str:
    """Return the part of a shard in the names of its files."""
    return f"{index:05d}"


def read_records(folder: RunFolder, part: str) -> Iterator[Record]:
    """Yield what a run's ledger has on one part, oldest file first; torn lines and garbage are left out."""
    names = {entry.name for entry in fields(Record)}
    for path in sorted(folder.ledger.glob(f"{part}-*.jsonl"), key=lambda path: path.stat().st_mtime):
        for values in read_lines(path):
            if names <= values.keys() and isinstance(values["id"], str):
                yield Record(**{name: values[name] for name in names})


def view_records(tables: Tables, files: Iterable[Path]) -> None:
    """Let the session see the records in some files as `records`; torn lines and garbage are left out.

    The records of one item differ in `finished_at`, for they come one after another.
    """
    columns = ", ".join(f"{text(name)}: {text(kind)}" for name, kind in _COLUMNS.items())
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _COLUMNS.items())
    names = ", ".join(text(file) for file in sorted(files))
    query = (
        f"SELECT * FROM read_json([{names}], format='newline_delimited', ignore_errors=true, "
        f"columns={{{columns}}}, maximum_object_size={MAX_RECORD_BYTES}) WHERE id IS NOT NULL AND status IS NOT NULL"
    )
    tables.execute(f"CREATE TEMP VIEW records AS {query if names else f'SELECT {nothing} WHERE false'}")
