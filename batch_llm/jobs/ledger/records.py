"""The ledger: what is done, item by item. Append-only, one writer a file, read forgivingly.

<ledger>/<name>/<run>/ledger/<part>-<random>.jsonl           what one writer wrote, one record a line
<ledger>/<name>/<run>/ledger/<part>-<random>.000001.jsonl    a piece of it, where files cannot be added to
<ledger>/<name>/<run>/plan.json, summary.json, outcomes.parquet   the run's plan, totals, and what became of each item
<ledger>/<name>/kept/ledger/<part>-<random>.jsonl            answers of runs that were pruned
<ledger>/<name>/lease/000000000007.json                      which run works on the ledger (see `lease`)
<ledger>/<name>/published.json                               whether outputs are those of a complete run

A part is `n000007-<plan>-<shard>`, where 7 is the number of the plan: the next plan of the name has the next number,
whatever the clock says. A record is an object of JSON with the fields of `Record`, of which `number` may be missing (a
ledger of an older version: 0), and then `check` (see `sound_records`). The last record of an item is the one with the
highest number, and of those the one with the latest `finished_at`; a success stands against any failure. A file may be
there twice, as a copy: the same record counts once.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaSerializer

from batch_llm.errors import FATAL_CATEGORIES
from batch_llm.jobs.storage.append_file import open_appended
from batch_llm.jobs.storage.json_files import objects_in, to_json
from batch_llm.jobs.storage.store import Store

from .checksums import sealed, sound_lines

Status: TypeAlias = Literal["succeeded", "failed", "skipped"]
INVALID_INPUT = "invalid_input"


_OPTIONAL = frozenset({"finish_reason", "number", "estimated_tokens", "unpriced", "service_tier"})
"""Fields that records of earlier versions lack."""


_NUMBERED = re.compile(r"(?:.*/)?n(\d{1,12})-[^/]*")
_PIECE = re.compile(r"(.*)\.\d{6}\.jsonl")


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
        number: Of the plan that the item was called by; the writer sets it. 0 for a record of an older version.
        estimated_tokens: How many of the tokens are estimated, for the provider reported none that can be right.
        unpriced: What of the usage has no price of its own, and is priced without it: `service_tier scale`.
        service_tier: The tier that answered, where it is not the standard one.
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
    number: int = 0
    estimated_tokens: int = 0
    unpriced: str = ""
    service_tier: str = ""

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
        part: What the records are of, in the file's name; it begins with the plan's number, `n000007-`.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, run: Store, part: str) -> None:
        self._file = open_appended(run, f"ledger/{part}-{uuid.uuid4().hex}")
        self.place = self._file.place
        self._number = number_in(part)
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    def append(self, *records: Record) -> None:
        """Add records; when this returns, they outlive the process.

        Raises:
            OSError: The disk is full, the folder is gone, the bucket cannot be reached.
        """
        for record in records:
            record.number = record.number or self._number
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
        return sealed(_serializer().to_json(record, fallback=str, warnings=False))  # in half the time of `to_json`
    except PydanticSerializationError:
        return sealed(to_json(record).encode())


def number_in(name: str) -> int:
    """Return the number of a plan, from the name of a part or of a file; 0 where it has none."""
    return int(found[1]) if (found := _NUMBERED.fullmatch(name)) else 0


def next_number(store: Store) -> int:
    """Return the number for a new plan: higher than that of any record in the folder of a job's name.

    Raises:
        OSError: The folder cannot be read.
    """
    return 1 + max(map(number_in, store.names("*/ledger/*.jsonl")), default=0)


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
    """Yield what a run's ledger has on one part; torn lines, garbage and damaged records are left out.

    The records of one file come in their order; the last one of an item is the one with the latest `finished_at`.
    """
    names = {entry.name for entry in fields(Record)}
    seen = set[bytes]()
    for content in _contents(run, f"ledger/{part}-*.jsonl"):
        lines = [line for line in sound_lines(content.splitlines()) if line not in seen]
        seen.update(lines)  # a file may be there as a copy
        for values in objects_in(lines):
            if names - _OPTIONAL <= values.keys() and isinstance(values["id"], str):
                yield Record(**{name: values[name] for name in names & values.keys()})


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
