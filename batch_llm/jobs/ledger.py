"""The ledger: what is done, item by item. Append-only, one writer a file, read forgivingly.

<ledger>/<name>/<run>/ledger/<part>-<random>.jsonl           what one writer wrote, one record a line
<ledger>/<name>/<run>/ledger/<part>-<random>.000001.jsonl    a piece of it, where files cannot be added to
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaSerializer

from batch_llm.errors import FATAL_CATEGORIES

from .appending import open_appended
from .files import objects_in, to_json
from .store import Store
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
    "finish_reason": "VARCHAR",
}
ID_FINGERPRINT = "md5(id)::UUID"
KEY_FINGERPRINT = "md5(key)::UUID"
FINGERPRINT = "md5(id || chr(0) || key)::UUID"
"""SQL for 16 bytes that stand for an id and a key. What DuckDB groups or joins by text does not always fit into the
memory, however much of it is spilled."""

_OPTIONAL = frozenset({"finish_reason"})
"""Fields that records of earlier versions lack."""

_PIECE = re.compile(r"(.*)\.\d{6}\.jsonl")
_RUN_OF_A_FILE = "([^/]+)/ledger/[^/]+$"


def _now() -> str:
    """Return the time as `datetime` writes it, in a quarter of the time."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().partition("+")[0]


@dataclass(slots=True)  # not frozen: one is made for every item, and that takes six times as long
class Record:
    """What became of one item in one try of its shard.

    Attributes:
        cost_usd: None where the model's price is not known.
        attempts: Made, those that met a rate limit too; a re-ask is part of its attempt.
        retryable: Whether the failure can pass.
        finished_at: ISO 8601, UTC.
        finish_reason: Why the answer ended, as in `WorkItemResult`; None where it is not known, as in records of
            versions before there was this field.
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
    finished_at: str = field(default_factory=_now)
    finish_reason: str | None = None

    @property
    def settled(self) -> bool:
        """Whether the item needs no further call by this shard.

        A fatal failure (a bad key, an empty account) says nothing of the item, so it never settles one.
        """
        return self.status != "failed" or not (self.retryable or self.category in FATAL_CATEGORIES)


@cache
def _serializer() -> SchemaSerializer:
    return TypeAdapter(Record).serializer


class LedgerWriter:
    """Appends records to a file of its own; use it as a context manager.

    Args:
        run: What is kept of the run.
        part: What the records are of, in the file's name.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, run: Store, part: str) -> None:
        self._file = open_appended(run, f"ledger/{part}-{uuid.uuid4().hex}")
        self.place = self._file.place
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    def append(self, *records: Record) -> None:
        """Add records; when this returns, they outlive the process.

        Raises:
            OSError: The disk is full, the folder is gone, the bucket cannot be reached.
        """
        self._file.write(b"\n".join([*map(_line, records), b""]))

    def sync(self) -> None:
        """Make what was added outlive the machine as well; to be called from a thread.

        Raises:
            OSError: The disk lost something.
        """
        self._file.sync()

    async def commit(self, record: Record) -> None:
        """Add a record; when this returns, it outlives the process.

        A file takes it at once, in less time than a task needs to wait; on its way to a bucket it goes with all that
        other callers add meanwhile.

        Raises:
            OSError: As `append`.
        """
        if not self._file.is_slow:
            self.append(record)
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, written))
        self._sending = self._sending or asyncio.create_task(self._send())
        await written

    async def _send(self) -> None:
        while waiting := self._waiting:
            self._waiting = []
            error = await asyncio.to_thread(self._error_of, [record for record, _ in waiting])
            for _, written in waiting:
                if written.done():
                    continue  # whoever asked is gone
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)
        self._sending = None

    def _error_of(self, records: Sequence[Record]) -> OSError | None:
        try:
            self.append(*records)
        except OSError as error:
            return error
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _line(record: Record) -> bytes:
    try:
        return _serializer().to_json(record, fallback=str, warnings=False)  # in half the time of `to_json`
    except PydanticSerializationError:
        return to_json(record).encode()


def record_files(store: Store, pattern: str = "*/ledger/*.jsonl") -> dict[str, int]:
    """Return the files with records, sorted, and their bytes; pieces whose whole file is there are left out.

    Args:
        store: The folder of a job's name.
        pattern: Which of them; `RUN/ledger/*.jsonl` for one run.
    """
    sizes = store.sizes(pattern)
    return {name: sizes[name] for name in sorted(sizes) if (whole := _whole(name)) == name or whole not in sizes}


def _whole(name: str) -> str:
    """Return the file that the pieces of one will be; another file is its own."""
    return f"{piece[1]}.jsonl" if (piece := _PIECE.fullmatch(name)) else name


def read_records(run: Store, part: str) -> Iterator[Record]:
    """Yield what a run's ledger has on one part; torn lines and garbage are left out.

    The records of one file come in their order; the last one of an item is the one with the latest `finished_at`.
    """
    names = [entry.name for entry in fields(Record)]
    needed = set(names) - _OPTIONAL
    for content in _contents(run, f"ledger/{part}-*.jsonl"):
        for values in objects_in(content.splitlines()):
            if needed <= values.keys() and isinstance(values["id"], str):
                yield Record(**{name: values[name] for name in names if name in values})


def _contents(run: Store, pattern: str) -> Iterator[bytes]:
    put_together = set[str]()
    for file in record_files(run, pattern):
        whole = _whole(file)
        if whole in put_together:
            continue
        if (content := run.read(file)) is None:
            # A writer that was taken for dead and is back puts its pieces together while others read them.
            put_together.add(whole)
            content = run.read(whole)
        yield content or b""


def view_records(
    tables: Tables, store: Store, files: Iterable[str], *, view: str = "records", with_run: bool = False
) -> None:
    """Let the session see the records in some files as a view; torn lines and garbage are left out.

    It has the fields of a `Record`, and `fingerprint` and `id_fingerprint`. The records of one item differ in
    `finished_at`, for they come one after another.

    Args:
        tables: The session.
        store: Where the files are.
        files: Which ones.
        view: The name of the view.
        with_run: Whether the view has a column `run` as well: the id of the run that wrote the record.
    """
    columns = ", ".join(f"{text(name)}: {text(kind)}" for name, kind in _COLUMNS.items())
    added = {"fingerprint": "UUID", "id_fingerprint": "UUID", **({"run": "VARCHAR"} if with_run else {})}
    run = f", regexp_extract(filename, {text(_RUN_OF_A_FILE)}, 1) AS run" if with_run else ""
    nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in {**_COLUMNS, **added}.items())
    names = ", ".join(text(file) for file in store.for_tables(tables, files))
    query = (
        f"SELECT *{' EXCLUDE (filename)' if with_run else ''}, {FINGERPRINT} AS fingerprint, "
        f"{ID_FINGERPRINT} AS id_fingerprint{run} "
        f"FROM read_json([{names}], format='newline_delimited', ignore_errors=true, "
        f"columns={{{columns}}}, maximum_object_size={MAX_RECORD_BYTES}, "
        f"filename={str(with_run).lower()}) WHERE id IS NOT NULL AND status IS NOT NULL"
    )
    tables.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query if names else f'SELECT {nothing} WHERE false'}")
