"""Records of the ledger: no complete line is lost, however the file was damaged."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batch_llm.jobs.ledger.record_views import drop_repeats, view_records
from batch_llm.jobs.ledger.records import LedgerWriter, Record, Status, read_records, record_files
from batch_llm.jobs.storage.duckdb_session import open_tables
from batch_llm.jobs.storage.store import Store
from tests.support.selection import examples

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('aé"\\\n\0😀'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


class _Scored(BaseModel):
    text: str
    score: float


_TORN = st.sampled_from(
    [b"", b'{"id": "x", "ke', b"\0" * 4096, b"\xff\xfe", b"[1]\n", b"garbage\n", b'{"id": "x"}\n', b"\n\n"]
)


def _written(folder: Store, outputs: list[Any]) -> Path:
    with LedgerWriter(folder, "00000") as ledger:
        for number, output in enumerate(outputs):
            ledger.append(Record(str(number), f"key-{number}", "succeeded", output=output))
        return Path(ledger.place)


def _by_duckdb(path: Path) -> dict[str, Any]:
    with open_tables() as tables:
        view_records(tables, Store(str(path.parent)), [path.name])
        rows = tables.execute("SELECT id, output FROM records WHERE status = 'succeeded'").fetchall()
    return {item_id: None if output is None else json.loads(output) for item_id, output in rows}


@examples(50)
@given(st.lists(_JSON, max_size=5), _TORN)
def test_damaged_end_of_a_ledger_loses_no_complete_line(outputs: list[Any], torn: bytes) -> None:
    """After an incomplete line, zeros or garbage, both readers return all complete lines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Store(name)
        path = _written(folder, outputs)
        with path.open("ab") as file:
            file.write(torn)
        wanted = {str(number): output for number, output in enumerate(outputs)}
        assert {record.id: record.output for record in read_records(folder, "00000")} == wanted
        assert _by_duckdb(path) == wanted


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4), st.data())
def test_truncated_ledger_keeps_every_complete_line(outputs: list[str], data: st.DataObject) -> None:
    """Truncated after any number of bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Store(name)
        path = _written(folder, outputs)
        content = path.read_bytes()
        cut = content[: data.draw(st.integers(0, len(content)))]
        path.write_bytes(cut)
        whole = cut.count(b"\n")
        read = {record.id for record in read_records(folder, "00000")}
        # The last line may be whole but for its line break.
        assert len(read) in (whole, whole + 1)
        assert read == {str(number) for number in range(len(read))}


def test_values_that_json_cannot_encode_lose_no_answer(tmp_path: Path) -> None:
    """Models return NaN and single surrogates."""
    folder = Store(str(tmp_path))
    scored = _Scored.model_construct(text="broken \ud83d", score=float("nan"))
    path = _written(folder, [{"text": "broken \ud83d", "score": float("nan")}, scored])
    wanted = {key: {"text": "broken ?", "score": None} for key in ("0", "1")}
    assert {record.id: record.output for record in read_records(folder, "00000")} == wanted
    assert _by_duckdb(path) == wanted


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    """The record survives a kill of the process."""
    with LedgerWriter(Store(str(tmp_path)), "00000") as ledger:
        ledger.append(Record("a", "k", "succeeded", output="x"))
        assert [record.id for record in read_records(Store(str(tmp_path)), "00000")] == ["a"]


def test_any_flipped_bit_of_a_record_is_found(tmp_path: Path) -> None:
    """Also one in the name of the checksum: the record is not mistaken for one of an earlier version."""
    folder = Store(str(tmp_path))
    with LedgerWriter(folder, "n000001-plan-00000") as ledger:
        ledger.append(Record("a", "k", "succeeded", output="yes", service_tier="priority", unpriced="searches"))
        path = Path(ledger.place)
    line = path.read_bytes()[:-1]
    with path.open("wb") as file:
        for place in range(len(line)):
            for bit in range(8):
                file.write(line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :] + b"\n")
    assert list(read_records(folder, "n000001-plan-00000")) == []
    assert _by_duckdb(path) == {}


@pytest.fixture(params=["local", "memory://committed"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return the folder of a run, in a store with fast writes and in one with slow writes."""
    yield Store(str(tmp_path) if request.param == "local" else request.param)
    fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


async def test_concurrent_commits_are_all_recorded(run: Store) -> None:
    """Several callers may share a write, and none of them continues before its record is stored."""
    with LedgerWriter(run, "00000") as ledger:

        async def commit(number: int) -> None:
            await ledger.commit(Record(str(number), "k", "succeeded", output="x"))
            assert str(number) in {record.id for record in read_records(run, "00000")}

        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(commit(number))
    assert len(list(read_records(run, "00000"))) == 50


@pytest.mark.parametrize("read_before", [1, 2])
def test_files_that_are_combined_during_a_read_are_read(run: Store, read_before: int) -> None:
    """A machine that was considered dead combines its files while the new runner of its shard reads them."""
    with LedgerWriter(run, "00000") as ledger:
        for name in "abc":
            ledger.append(Record(name, "k", "succeeded"))
        reader = read_records(run, "00000")
        read = {next(reader).id for _ in range(read_before)}
    assert read | {record.id for record in reader} == {"a", "b", "c"}


async def test_cancelled_caller_loses_no_record(run: Store) -> None:
    """Neither its own record, which was paid for, nor those of the others are lost."""
    with LedgerWriter(run, "00000") as ledger:
        one = asyncio.create_task(ledger.commit(Record("a", "k", "succeeded")))
        other = asyncio.create_task(ledger.commit(Record("b", "k", "succeeded")))
        await asyncio.sleep(0)
        one.cancel()
        await other
    assert {record.id for record in read_records(run, "00000")} == {"a", "b"}


@pytest.mark.parametrize("how", ["deleted", "deleted with its folder", "renamed", "replaced"])
def test_a_file_that_is_no_longer_at_its_path_stops_the_writer(tmp_path: Path, how: str) -> None:
    """All records that were written are still in the ledger, and the error names the copy of a deleted file."""
    folder = Store(str(tmp_path / "run"))
    with LedgerWriter(folder, "n000001-plan-00000") as ledger:
        ledger.append(Record("a", "k", "succeeded", output="x"))
        ledger.sync()
        path = Path(ledger.place)
        if how == "renamed":
            path.rename(path.with_name("n000001-plan-00000-moved.jsonl"))
        elif how == "deleted with its folder":
            shutil.rmtree(folder.address)
        else:
            path.unlink()
        if how == "replaced":
            path.touch()
        ledger.append(Record("b", "k", "succeeded", output="y"))
        ledger.sync()
        with pytest.raises(OSError, match="it was deleted, renamed or replaced during the run") as error:
            ledger.append(Record("c", "k", "succeeded", output="z"))
        assert {record.id: record.output for record in read_records(folder, "n000001-plan-00000")} == {
            "a": "x",
            "b": "y",
        }
        copies = [file for file in path.parent.iterdir() if str(file) in str(error.value)]
        assert len(copies) == (how != "renamed")
    assert len(record_files(folder, "ledger/*.jsonl")) == 1 + (how == "replaced")


def test_records_of_a_frozen_clock_are_told_apart(tmp_path: Path) -> None:
    """Calls of one item at the same time: the success of the newer plan counts, and each call is billed once."""
    store, frozen = Store(str(tmp_path)), "2026-11-01T00:00:00.000000+00:00"
    outcomes: list[tuple[Status, float]] = [("failed", 1.0), ("succeeded", 2.0), ("failed", 4.0)]
    for number, output in enumerate(("new", "old"), start=1):
        with LedgerWriter(store.folder(output), f"n{3 - number:06d}-plan-00000") as ledger:
            for status, seconds in outcomes:
                values: dict[str, Any] = {"output": output, "attempts": 1, "seconds": number * seconds}
                ledger.append(Record("a", "k", status, finished_at=frozen, **values))
    original = tmp_path / next(iter(record_files(store)))
    original.with_name("copy (1).jsonl").write_bytes(original.read_bytes())
    with open_tables() as tables:
        view_records(tables, store, record_files(store))
        found = tables.execute("SELECT count(*), sum(seconds), max_by(output, stamp) FROM records").fetchone()
        (status,) = tables.execute("SELECT max_by(status, stamp) FROM records").fetchone() or ("",)
    assert (found, status) == ((6, 21.0, '"new"'), "succeeded")


def test_two_rows_at_a_position_become_one(tmp_path: Path) -> None:
    """Two records of an item that differ in nothing but their text would be two rows of the output."""
    table = tmp_path / "outcomes.parquet"
    with open_tables() as tables:
        tables.execute(f"COPY (SELECT unnest([1, 2, 2, 3]) AS position, 'x' AS output) TO '{table}' (FORMAT parquet)")
        drop_repeats(tables, table)
        assert tables.execute(f"SELECT position, output FROM '{table}' ORDER BY ALL").fetchall() == [
            (1, "x"),
            (2, "x"),
            (3, "x"),
        ]


def test_answers_of_old_dry_runs_are_not_read(tmp_path: Path) -> None:
    """Versions that accepted `dry_run` in a job recorded its answers; an answer of a model with these words counts."""
    folder = Store(str(tmp_path))
    with LedgerWriter(folder, "n000001-plan-00000") as ledger:
        ledger.append(Record("a", "k", "succeeded", output="dry run of item a"))
        ledger.append(Record("b", "k", "succeeded", output="dry run of item b", attempts=1))
        ledger.append(Record("c", "k", "failed", output="dry run of item c"))
        path = Path(ledger.place)
    assert [record.id for record in read_records(folder, "n000001-plan-00000")] == ["b", "c"]
    assert _by_duckdb(path) == {"b": "dry run of item b"}
    with open_tables() as tables:
        assert view_records(tables, Store(str(path.parent)), [path.name]) == 0, "nothing is damaged"


def test_two_writers_never_share_a_file(tmp_path: Path) -> None:
    """A shard that runs twice by mistake damages no record."""
    folder = Store(str(tmp_path))
    with LedgerWriter(folder, "00000") as one, LedgerWriter(folder, "00000") as other:
        one.append(Record("a", "k", "succeeded"))
        other.append(Record("b", "k", "succeeded"))
        assert one.place != other.place
    assert {record.id for record in read_records(folder, "00000")} == {"a", "b"}


def test_outcomes_that_settle_an_item() -> None:
    """A success does, and a failure that is not retryable and not about the key."""

    def settled(**values: Any) -> bool:
        return Record("a", "k", **values).settled

    assert settled(status="succeeded")
    assert not settled(status="failed", category="server_error", retryable=True)
    assert settled(status="failed", category="invalid_request")
    assert not settled(status="failed", category="auth")
    assert settled(status="skipped", category="skipped")
