"""Answers that a job accepts: blank, truncated and large ones, and those from another token limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, Summary, merge, plan, run_shard
from batch_llm.jobs.accepted_answers import MAX_ANSWER_BYTES
from batch_llm.jobs.ledger.records import LedgerWriter, Record
from batch_llm.jobs.results.runs import find_run, read_run_state
from batch_llm.jobs.storage.store import Store
from tests.support.jobs import documents, job, prompts, read_lines
from tests.support.loopback import Call, Reply
from tests.support.openai_server import OpenAIServer

_MODEL = {"model": "openai-chat:m", "canary": 0, "config": {"max_workers": 2}, "failure_threshold": 1}


@pytest.fixture(autouse=True)
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """Start a compatible server on loopback, and set its address as a user does."""
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "some-key-of-mine")
        yield server


_SCHEMA = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}


async def _run(run_id: str, **settings: Any) -> Summary:
    todo = job(**{**_MODEL, **settings})
    made = await asyncio.to_thread(plan, todo, run_id)
    for shard in made.shards:
        await run_shard(todo, made.folder, shard)
    return await asyncio.to_thread(merge, todo, made)


def _rows(totals: Summary) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_lines(totals.output)}


def _limit(call: Call) -> int:
    return call.body["max_tokens"]


def _cut_below(limit: int, *, item: str) -> Any:
    """Answer like a model that needs `limit` tokens for the item."""

    def rule(call: Call) -> Reply | None:
        if call.prompt == item and _limit(call) < limit:
            return OpenAIServer.length("Half an ans")
        return None

    return rule


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "blank", ["\n", "   \n\n ", "\u200b", "\u2060\ufeff", "\u3164", "\u00a0\u2003", "\u2800", "\0"]
)
async def test_blank_answer_is_requested_again(home: Path, openai: OpenAIServer, blank: str) -> None:
    """The second reply is an answer, or the item fails validation."""
    documents(home, a="one")
    openai.script(OpenAIServer.text(blank))
    totals = await _run("r")
    assert (totals.succeeded, openai.requests, _rows(totals)["a"]["answer"]) == (1, 2, "one")


async def test_a_blank_answer_of_an_earlier_version_is_not_reused(home: Path) -> None:
    """Earlier versions recorded blank text as an answer."""
    blank = {"a": "\n\u200b ", "b": "", "c": "\u2800", "d": "\0"}
    others = {"e": " x ", "f": "Yes", "g": "no", "h": "\u00e9", "i": '"', "j": "\\", "k": "{", "l": "~", "m": "!"}
    outputs: dict[str, Any] = {**blank, **others, "n": {"text": ""}, "o": [""], "p": -1, "q": None}
    documents(home, **{name: f"text of {name}" for name in outputs})
    todo = job(**_MODEL)
    made = plan(todo, "r1")
    with LedgerWriter(Store(made.folder), made.shards[0].part) as ledger:
        for item in read_lines(made.shards[0].path):
            ledger.append(Record(item["id"], item["key"], "succeeded", outputs[item["id"]], attempts=1))
    assert prompts(plan(todo, "r2")).keys() == blank.keys()


async def test_only_truncated_calls_only_truncated_items(home: Path, openai: OpenAIServer) -> None:
    """With a higher limit, whole answers are reused; the next run with that limit pays for nothing."""
    documents(home, a="one", b="two", c="three")
    openai.rule = _cut_below(50, item="two")
    totals = await _run("r1", model_settings={"max_tokens": 10})
    assert (totals.succeeded, totals.truncated) == (3, 1)
    rows = _rows(totals)
    assert {item: row["finish_reason"] for item, row in rows.items()} == {"a": "stop", "b": "length", "c": "stop"}
    documents(home, a="one", b="two", c="three", d="four")
    assert read_run_state(find_run(Store(".batch-llm"))).totals.truncated == 1
    openai.calls.clear()
    higher = {"model_settings": {"max_tokens": 100}}
    totals = await _run("r2", only_truncated=True, **higher)
    assert [call.prompt for call in openai.calls] == ["two"]
    rows = _rows(totals)
    assert {item: row["answer"] for item, row in rows.items()} == {"a": "one", "b": "two", "c": "three", "d": None}
    assert (rows["d"]["status"], totals.truncated, totals.reused) == ("left_out", 0, 2)
    openai.calls.clear()
    totals = await _run("r3", **higher)
    assert ([call.prompt for call in openai.calls], totals.reused) == (["four"], 3)


async def test_higher_token_limit_calls_only_truncated_items(home: Path, openai: OpenAIServer) -> None:
    """A lower limit calls all items, because it may truncate answers that fit the higher one."""
    documents(home, a="one", b="two")
    openai.rule = _cut_below(50, item="two")
    await _run("r1", model_settings={"max_tokens": 10})
    openai.calls.clear()
    totals = await _run("r2", model_settings={"max_tokens": 60})
    assert ([call.prompt for call in openai.calls], totals.truncated) == (["two"], 0)
    openai.calls.clear()
    await _run("r3", model_settings={"max_tokens": 5})
    assert sorted(call.prompt for call in openai.calls) == ["one", "two"]


async def test_the_same_limit_reuses_a_truncated_answer(home: Path, openai: OpenAIServer) -> None:
    """Unless only_truncated selects it; if truncated answers fail, one in the ledger is not reused, either."""
    documents(home, a="one", b="two")
    openai.rule = _cut_below(50, item="two")
    settings = {"model_settings": {"max_tokens": 10}}
    await _run("r1", **settings)
    totals = await _run("r2", **settings)
    assert (totals.reused, totals.truncated, openai.requests) == (2, 1, 2)
    totals = await _run("r3", **settings, only_truncated=True)
    assert (totals.reused, openai.requests) == (1, 3)
    totals = await _run("r4", **settings, truncated_answers="fail")
    assert (totals.reused, totals.failed, totals.truncated, openai.requests) == (1, 1, 1, 4)
    error = _rows(totals)["b"]["error"]
    assert "cut off at the token limit" in error
    assert "max_tokens, which is 10" in error


async def test_answer_that_is_too_large_fails_its_row(home: Path, openai: OpenAIServer) -> None:
    """The error states the size; other items and later runs are not affected."""
    documents(home, a="one", b="two")
    openai.rule = lambda call: OpenAIServer.text("x" * (MAX_ANSWER_BYTES + 1)) if call.prompt == "two" else None
    totals = await _run("r1")
    assert (totals.succeeded, totals.failed) == (1, 1)
    assert _rows(totals)["b"]["error"].startswith("the answer has 8 MB; the limit is 8 MB")
    assert prompts(plan(job(**_MODEL), "r2")) == {"b": "two"}


async def test_a_truncated_structured_answer_is_one_call(home: Path, openai: OpenAIServer) -> None:
    """The same call would be cut off at the same place; the error names the limit."""
    documents(home, a="one")
    openai.script(OpenAIServer.length('{"kind": "la'))
    totals = await _run("r", output_schema=_SCHEMA, model_settings={"max_tokens": 4000})
    row = _rows(totals)["a"]
    assert (openai.requests, row["finish_reason"], row["error_category"]) == (1, "length", "validation")
    assert "raise max_tokens, which is 4,000" in row["error"]


def test_selections_of_items_exclude_each_other(home: Path) -> None:
    """refresh, only_failed and only_truncated cannot be combined."""
    with pytest.raises(
        JobError, match="only_truncated cannot be used together with refresh or only_failed: set only one"
    ):
        BatchJob.parse({"source": "a", "prompt": "b", "output": "c.jsonl", "only_truncated": True, "refresh": True})


async def test_server_without_json_schema_is_called_with_tools(home: Path, openai: OpenAIServer) -> None:
    """This is found out once per run, also over shards; no attempt is used up, and keys do not change."""
    documents(home, **{f"d{n}": str(n) for n in range(6)})

    def rule(call: Call) -> Reply | None:
        if "json_schema" in str(call.body.get("response_format")):
            return OpenAIServer.error(400, "This response_format type is unavailable now", None)
        return None

    openai.rule = rule
    totals = await _run("r1", output_schema=_SCHEMA, shard_size=2, config={"max_workers": 4})
    assert (totals.succeeded, openai.requests) == (6, 7)
    assert {row["attempts"] for row in read_lines(totals.output)} == {1}
    assert (await _run("r2", output_schema=_SCHEMA, output_mode="tool")).reused == 6


async def test_server_without_schema_and_tools_gets_the_schema_as_instructions(
    home: Path, openai: OpenAIServer
) -> None:
    """The schema is then passed as instructions."""
    documents(home, a="one", b="two")

    def rule(call: Call) -> Reply | None:
        if "response_format" in call.body:
            return OpenAIServer.error(422, "Extra inputs are not permitted: body.response_format", None)
        if "tools" in call.body:
            return OpenAIServer.error(400, "this model does not support tools", None)
        assert '"kind"' in str(call.body["messages"])
        return OpenAIServer.text('Sure: {"kind": "late"}')

    openai.rule = rule
    totals = await _run("r1", output_schema=_SCHEMA)
    assert (totals.succeeded, openai.requests) == (2, 5)


@pytest.mark.parametrize(("known", "other"), [("max_tokens", "max_completion_tokens")] * 1)
async def test_token_limit_is_sent_under_the_name_that_the_server_accepts(
    home: Path, openai: OpenAIServer, known: str, other: str
) -> None:
    """Of max_tokens and max_completion_tokens, the server may refuse either."""
    documents(home, a="one", b="two")
    for name in (known, other):
        refused = other if name == known else known
        openai.calls.clear()
        openai.rule = lambda call, refused=refused: (
            OpenAIServer.error(400, f"Unsupported parameter: '{refused}'", None) if refused in call.body else None
        )
        totals = await _run(name, model_settings={"max_tokens": 50}, refresh=True, name=name.replace("_", "-"))
        assert totals.succeeded == 2
        assert openai.calls[-1].body[name] == 50
        assert refused not in openai.calls[-1].body
    assert json.dumps(openai.calls[-1].body).count("50") == 1


@pytest.mark.parametrize("ignored", [{"max_tokens"}, {"max_tokens", "max_completion_tokens"}])
async def test_token_limit_that_the_server_ignores_is_sent_under_its_other_name(
    home: Path, openai: OpenAIServer, caplog: pytest.LogCaptureFixture, ignored: set[str]
) -> None:
    """One warning names the server; every answer counts, and a limit that is respected is sent under one name."""
    documents(home, a="long", b="long", c="long")

    def rule(call: Call) -> Reply | None:
        limit = next((value for name, value in call.body.items() if name in _NAMES - ignored), 100)
        return OpenAIServer.text(" ".join(["word"] * min(limit, 100)))

    openai.rule = rule
    totals = await _run("r1", model_settings={"max_tokens": 20}, config={"max_workers": 1})
    assert (totals.succeeded, openai.requests) == (3, 3)
    sent = [next(name for name in call.body if name in _NAMES) for call in openai.calls]
    assert sent == ["max_tokens", "max_completion_tokens", "max_completion_tokens"]
    warned = [record.getMessage() for record in caplog.records if "ignores the token limit" in record.message]
    assert len(warned) == 1
    assert warned[0].startswith(
        f"{openai.base_url}/ ignores the token limit: an answer has 100 tokens, and max_tokens is 20"
    )


_NAMES = {"max_tokens", "max_completion_tokens"}
