"""`batch-llm simulate` prints a forecast without calls or a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_llm.cli.actions.simulate import duration, rounded_money, size
from tests.support.command import batch_llm, batch_llm_here

SHORT = ("--requests-per-minute", "600", "--model", "openai-chat:gpt-4.1-mini")


def test_the_table_has_a_column_for_each_number_of_items(tmp_path: Path) -> None:
    shown = batch_llm("simulate", "--items", "100", "--items", "200", *SHORT, folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    heading, time, *_ = shown.stdout.splitlines()
    assert "100 items" in heading
    assert "200 items" in heading
    word, short, _, long, _ = time.split()
    assert word == "time"
    assert float(long) - float(short) == pytest.approx(10, abs=2), "100 calls at ten a second"


def test_json_has_one_object_for_each_number_of_items(tmp_path: Path) -> None:
    shown = batch_llm_here("simulate", "--items", "100", *SHORT, "--output-tokens", "0", "--json", folder=tmp_path)
    forecast = json.loads(shown.stdout)
    assert (forecast["items"], forecast["calls"], forecast["input_tokens"]) == (100, 100, 50_000)
    assert forecast["cost_usd"] == pytest.approx(0.02)  # USD 0.40 for a million


def test_a_preset_provides_what_no_option_sets(tmp_path: Path) -> None:
    shown = batch_llm_here("simulate", "summarize", "--items", "20", "--json", folder=tmp_path)
    forecast = json.loads(shown.stdout)
    assert (forecast["cost_usd"], forecast["max_workers"], forecast["processes"]) == (0.0, 5, 1)


def test_the_source_prices_and_canary_of_a_preset_are_used(tmp_path: Path) -> None:
    """Options override them; the canary runs first, as in a first run."""
    rows = "".join(json.dumps({"id": str(number), "text": "x"}) + "\n" for number in range(300))
    (tmp_path / "docs.jsonl").write_text(rows)
    parameters = {
        "source": str(tmp_path / "docs.jsonl"),
        "prompt": "{text}",
        "output": "out.jsonl",
        "model": "openai-chat:mine",
        "prices": {"input_mtok": 2.0, "output_mtok": 0.0},
        "shard_size": 1_000,
    }
    (tmp_path / "batch-llm.yaml").write_text(json.dumps({"deployments": [{"name": "mine", "parameters": parameters}]}))
    shown = batch_llm_here("simulate", "mine", "--json", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    forecast = json.loads(shown.stdout)
    assert (forecast["items"], forecast["shards"], forecast["calls"]) == (300, 2, 300)
    assert forecast["cost_usd"] == pytest.approx(300 * 500 * 2e-6)


def test_the_limits_of_the_given_model_apply(tmp_path: Path) -> None:
    """A limit of 50,000 input tokens per minute is 100 calls of 500 tokens."""
    limits = {"openai-chat:one": {"requests_per_minute": 6_000}, "openai-chat:two": {"input_tokens_per_minute": 50_000}}
    parameters = {"source": "samples", "prompt": "{text}", "output": "out.jsonl", "model": "openai-chat:one"}
    preset = {"name": "mine", "parameters": parameters | {"limits": limits}}
    (tmp_path / "batch-llm.yaml").write_text(json.dumps({"deployments": [preset]}))
    shown = batch_llm_here(
        "simulate", "mine", "--items", "200", "--model", "openai-chat:two", "--json", folder=tmp_path
    )
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["call_seconds"] == pytest.approx(120, rel=0.2)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "nothing to simulate: set the number of items, such as --items 100000"),
        (("--items", "5", "--latency", "0"), "latency is 0: it must be more than 0"),
        (("sumarize", "--items", "5"), "did you mean 'summarize'?"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    shown = batch_llm_here("simulate", *options, folder=tmp_path)
    assert shown.returncode == 2
    assert problem in shown.stderr
    assert "Traceback" not in shown.stderr


def test_numbers_have_two_significant_digits() -> None:
    assert [duration(each) for each in (42, 100, 8_000, 400_000)] == ["42 s", "1.7 min", "2.2 h", "4.6 d"]
    assert [size(each) for each in (312_000_000, 1_440_000_000)] == ["310 MB", "1.4 GB"]
    assert [rounded_money(each) for each in (0, 0.0123, 7.77, 12_345)] == ["$0.00", "$0.0123", "$7.8", "$12,000"]
