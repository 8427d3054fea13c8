"""The ledger: one record per finished item, in append-only files with one writer each.

<ledger>/<name>/<run>/ledger/<part>-<random>.jsonl           records of one writer, one per line
<ledger>/<name>/<run>/ledger/<part>-<random>.000001.jsonl    a piece of this file, in buckets, where files cannot grow
<ledger>/<name>/<run>/plan.json, summary.json, outcomes.parquet   the run's plan, its totals, the outcome of each item
<ledger>/<name>/kept/ledger/<part>-<random>.jsonl            answers of removed runs
<ledger>/<name>/lease/000000000007.json                      the run that owns the ledger (see `lease`)
<ledger>/<name>/published.json                               whether each output is that of a complete run

A part is named `n000007-<plan>-<shard>`, where 7 is the number of the plan: the next plan of the job has the next
number, regardless of the clock. A record is a JSON object with the fields of `Record`, followed by `check` (see
`checksums`); ledgers of older versions lack `number`, which counts as 0. The last record of an item is the one with the
highest number, and among these, with the latest `finished_at`; a success counts over any failure. A file may exist
twice, as a copy: the same record counts once.
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

from .checksums import line_with_checksum, sound_lines

Status: TypeAlias = Literal["succeeded", "failed", "skipped"]
INVALID_INPUT = "invalid_input"


_OPTIONAL = frozenset({"finish_reason", "number", "estimated_tokens", "unpriced", "service_tier", "call_seconds"})
"""Fields that records of earlier versions do not have."""


_NUMBERED = re.compile(r"(?:.*/)?n(\d{1,12})-[^/]*")
_PIECE = re.compile(r"(.*)\.\d{6}\.jsonl")


def _now() -> str:
    """Return the current time in ISO 8601; four times as fast as `datetime.isoformat`."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06d}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().partition("+")[0]


@dataclass(slots=True)  # not frozen: one is made for every item, and that takes six times as long
class Record:
    """Outcome of one item in one attempt of its shard.

    Attributes:
        id: Id of the item.
        key: Hash of everything that determines the answer, such as the prompt and the model.
        status: Outcome of the item.
        output: The answer; None if there is none.
        input_tokens: Input tokens of all attempts.
        output_tokens: Output tokens of all attempts.
        cached_input_tokens: Input tokens from the provider's cache.
        cost_usd: Cost of all attempts; None if the price of the model is not known.
        attempts: Number of attempts, including rate-limited attempts; a re-ask is part of its attempt.
        seconds: Duration of the item, including waits and retries.
        category: Category of the failure.
        error: Message of the failure.
        retryable: Whether the failure is temporary.
        finished_at: Time of the outcome, ISO 8601, UTC.
        finish_reason: Why the answer ended, as in `WorkItemResult`; None if it is not known, as in records of earlier
            versions.
        estimated_tokens: Number of estimated tokens, if the provider reported no plausible token usage.
        unpriced: Part of the usage without a published price, which is priced without it: `service_tier scale`.
        service_tier: The service tier that answered, if it is not the standard tier.
        call_seconds: Duration of the last call, without waits; None in records of earlier versions.
        number: Number of the plan that the item was called by, set by the writer; 0 in records of older versions.
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
    estimated_tokens: int = 0
    unpriced: str = ""
    service_tier: str = ""
    call_seconds: float | None = None
    number: int = 0  # last, because a damaged record without a valid checksum is recognized by it

    @property
    def settled(self) -> bool:
        """Whether the item needs no further call by this shard.

        A fatal failure (a bad key, an empty account) is not a property of the item, so it never settles the item.
        """
        return self.status != "failed" or not (self.retryable or self.category in FATAL_CATEGORIES)


@cache
def _serializer() -> SchemaSerializer:
    return TypeAdapter(Record).serializer


class LedgerWriter:
    """Writer of records to a new file; use it as a context manager.

    Args:
        run: The run's folder in the ledger.
        part: Beginning of the file's name: the plan's number and the shard, `n000007-<plan>-<shard>`.

    Raises:
        OSError: The folder cannot be written.

    Example:
        >>> with LedgerWriter(run_folder(job, run_id).store, shard.part) as writer:
        ...     await writer.commit(record)
    """

    def __init__(self, run: Store, part: str) -> None:
        self._file = open_appended(run, f"ledger/{part}-{uuid.uuid4().hex}")
        self.place = self._file.place
        self._number = number_in(part)
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    def append(self, *records: Record) -> None:
        """Append records; after this returns, they survive a crash of the process.

        Raises:
            OSError: The disk is full, the folder is gone, the bucket cannot be reached.
        """
        for record in records:
            record.number = record.number or self._number
        self._file.write(b"".join(map(_line, records)))

    def sync(self) -> None:
        """Flush the records to disk, so that they survive a crash of the machine; call it from a thread.

        Raises:
            OSError: Written records were lost.
        """
        self._file.sync()

    async def commit(self, record: Record) -> None:
        """Append a record; after this returns, it survives a crash of the process.

        A local file is written at once, which is faster than switching tasks. Records for a bucket are written in a
        thread, together with all records that other callers add meanwhile.

        Raises:
            OSError: The record cannot be written, as in `append`.
        """
        if not self._file.is_slow:
            record.number = record.number or self._number
            self._file.write(_line(record))
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
                    continue  # the caller was cancelled
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
        text = _serializer().to_json(record, fallback=str, warnings=False)  # in half the time of `to_json`
    except PydanticSerializationError:
        text = to_json(record).encode()
    return line_with_checksum(text)


def number_in(name: str) -> int:
    """Return the number of the plan in the name of a part or a file; 0 if the name has none."""
    return int(found[1]) if (found := _NUMBERED.fullmatch(name)) else 0


def next_number(store: Store) -> int:
    """Return the number of a new plan, which is higher than that of any record of the job's name.

    Raises:
        OSError: The folder cannot be read.
    """
    return 1 + max(map(number_in, store.names("*/ledger/*.jsonl")), default=0)


def record_files(store: Store, pattern: str = "*/ledger/*.jsonl") -> dict[str, int]:
    """Return the record files, sorted, with their sizes in bytes; pieces of a file that was joined are left out.

    Args:
        store: The folder of a job's name.
        pattern: Pattern of the names; `RUN/ledger/*.jsonl` for one run.
    """
    sizes = store.sizes(pattern)
    return {name: sizes[name] for name in sorted(sizes) if (whole := _whole(name)) == name or whole not in sizes}


def _whole(name: str) -> str:
    """Return the name of the joined file for a piece; the name itself for other files."""
    return f"{piece[1]}.jsonl" if (piece := _PIECE.fullmatch(name)) else name


def read_records(run: Store, part: str) -> Iterator[Record]:
    """Yield the records of one part of a run; truncated, invalid and damaged lines are left out.

    The records of each file are in their order; the last record of an item is the one with the latest `finished_at`.

    Args:
        run: The run's folder in the ledger.
        part: The part, `n000007-<plan>-<shard>`.
    """
    names = {entry.name for entry in fields(Record)}
    seen = set[bytes]()
    for content in _contents(run, f"ledger/{part}-*.jsonl"):
        lines = [line for line in sound_lines(content.splitlines()) if line not in seen]
        seen.update(lines)  # there may be a copy of a file
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
            # A writer that was treated as dead has resumed, and joins its pieces while others read them.
            put_together.add(whole)
            content = run.read(whole)
        yield content or b""
