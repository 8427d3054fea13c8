"""Ledgers in a bucket or on another file system of fsspec keep the same promises as local ones."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Plan, job_store, merge, plan, result_rows, run_folder, run_shard, run_stats
from batch_llm.jobs.ledger.records import LedgerWriter, Record, read_records, record_files
from batch_llm.jobs.storage.store import Store
from batch_llm.strategies.base import LLMCallStrategy
from tests.support.jobs import job, prompts, read_lines, write_lines


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Start an S3 server, set its address and keys in the environment, and return the URL of an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "key")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:{1}".format(*server.get_host_and_port()))
        fsspec.filesystem("s3").mkdir("ledgers")  # pyright: ignore[reportUnknownMemberType]
        yield "s3://ledgers"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a new, empty folder on each kind of remote file system."""
    if request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    else:
        yield "memory://ledgers"
        fsspec.filesystem("memory").store.clear()  # pyright: ignore[reportUnknownMemberType]


class Upper(LLMCallStrategy[str]):
    def __init__(self) -> None:
        self.calls = Counter[str]()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        self.calls[prompt] += 1
        if prompt.startswith("bad"):
            raise TypeError("it is bad")
        return prompt.upper(), {"input_tokens": 3, "output_tokens": 2}


def _documents(home: Path, *texts: str) -> None:
    write_lines(home / "docs.jsonl", *({"id": text, "text": text} for text in texts))


@pytest.mark.sample(1)
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "csv"])
def test_remote_source_is_read_like_a_local_file(place: str, home: Path, ending: str) -> None:
    source = f"{place}/docs.{ending}"
    lines = ["id,text", "a,one", "b,two"] if ending == "csv" else ['{"id":"a","text":"one"}', '{"id":"b","text":"two"}']
    packed = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}.get(ending.rpartition(".")[2], bytes)
    fsspec.filesystem(place.partition(":")[0]).pipe_file(  # pyright: ignore[reportUnknownMemberType]
        source, packed("".join(f"{line}\n" for line in lines).encode())
    )
    assert prompts(plan(job(source=source), "first")) == {"a": "one", "b": "two"}


async def _answer_all(made_for: BatchJob, made: Plan) -> Counter[str]:
    strategy = Upper()
    for shard in made.shards:
        await run_shard(made_for, made.folder, shard, strategy=lambda: strategy)
    return strategy.calls


@pytest.mark.sample(1)
async def test_answers_of_one_machine_are_reused_on_another(
    home: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second machine needs no file from the disk of the first."""
    made_for = job(ledger=place, shard_size=2, config={"max_workers": 2, "retry": {"max_attempts": 1}})
    _documents(home, "a", "b", "bad", "c")
    made = plan(made_for, "first", strategy="Upper")
    assert await _answer_all(made_for, made) == {"a": 1, "b": 1, "bad": 1, "c": 1}
    summary = merge(made_for, made)
    assert (summary.succeeded, summary.failed) == (3, 1)
    run = run_folder(made_for, "first")
    assert [row.success for row in result_rows(run, 9).results] == [False, True, True, True]
    assert run_stats(run).examples == {"programming": "TypeError: it is bad"}
    stored = {name.rpartition("/")[2] for name in job_store(made_for).names("first/*")}
    assert {"plan.json", "summary.json", "outcomes.parquet"} <= stored

    elsewhere = home / "another-machine"
    elsewhere.mkdir()
    monkeypatch.setenv("BATCH_LLM_HOME", str(elsewhere))
    _documents(elsewhere, "a", "b", "bad", "c", "new")
    second = plan(made_for, "second", strategy="Upper")
    assert (second.reused, second.retried, second.new) == (3, 1, 1)
    assert await _answer_all(made_for, second) == {"bad": 1, "new": 1}
    assert {row["id"]: row["answer"] for row in read_lines(merge(made_for, second).output)}["a"] == "A"


@pytest.mark.sample(1)
async def test_dead_machine_loses_no_answer(home: Path, place: str) -> None:
    """Its shard is not closed, so the ledger has it in pieces; the run continues on another machine."""
    made_for = job(ledger=place)
    _documents(home, "a", "b", "c")
    made = plan(made_for, "first")
    with LedgerWriter(job_store(made_for).folder("first"), made.shards[0].part) as writer:
        for item in read_lines(made.shards[0].path)[:2]:
            await writer.commit(Record(item["id"], item["key"], "succeeded", output="fine", attempts=1))
        assert len(record_files(job_store(made_for))) == 2
        again = plan(made_for, "first")
        assert prompts(again) == {"c": "c"}
        assert again.answered == 2
        assert plan(made_for, "second").reused == 2


@pytest.mark.sample(1)
def test_closed_shard_is_a_single_file(place: str) -> None:
    """Reading thousands of pieces would take minutes; while pieces and file exist, nothing counts twice."""
    store = Store(f"{place}/name")
    with LedgerWriter(store.folder("run"), "part") as ledger:
        for number in range(5):
            ledger.append(Record(str(number), "k", "succeeded"))
        pieces = {name: store.read(name) or b"" for name in record_files(store)}
        assert len(pieces) == 5
    (whole,) = record_files(store)
    assert store.read(whole) == b"".join(pieces.values())
    for name, content in pieces.items():
        store.write(name, content)
    assert list(record_files(store)) == [whole]


@pytest.mark.sample(1)
def test_objects_that_are_deleted_during_a_run_are_restored_at_its_end(place: str) -> None:
    """For example by a rule of the bucket that removes old objects, or by hand."""
    store = Store(f"{place}/name")
    for count in (1, 3):
        part = f"n{count:06d}-plan-00000"
        with LedgerWriter(store.folder("run"), part) as ledger:
            for number in range(count):
                ledger.append(Record(str(number), "k", "succeeded"))
            store.remove(record_files(store, f"run/ledger/{part}*.jsonl"))
        assert [record.id for record in read_records(store.folder("run"), part)] == [str(n) for n in range(count)]


def test_second_creation_of_a_file_fails(place: str) -> None:
    store = Store(place)
    assert [store.create("lease/1.json", value) for value in (b"1", b"2")] == [True, False]
    assert store.read("lease/1.json") == b"1"
    assert store.read("lease/2.json") is None


def test_a_password_in_an_address_is_not_shown() -> None:
    """The addresses of subfolders do not show it, either."""
    store = Store("memory://me:pa55word@bucket/ledger")
    assert store.folder("name").address == "memory://***@bucket/ledger/name"
    with pytest.raises(JobError, match=r"ledger nowhere://\*\*\*@bucket cannot be reached"):
        Store("nowhere://me:pa55word@bucket")


@pytest.mark.sample(1)
@pytest.mark.parametrize("ledger", ["nowhere://bucket", "s3://no-such-bucket/ledger"])
def test_unusable_address_is_reported_in_one_line(home: Path, bucket: str, ledger: str) -> None:
    """The line names the address and the reason, without a traceback; no call was paid for."""
    _documents(home, "a")
    with pytest.raises(JobError) as caught:
        plan(job(ledger=ledger), "first", strategy="Upper")
    assert ledger.partition("/")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret-of-a-test" not in str(caught.value)
