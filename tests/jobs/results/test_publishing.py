"""Rules for replacing an output."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, job_store, merge, plan
from batch_llm.jobs.ledger.lease import hold_lease
from batch_llm.jobs.sinks import OutputPlace
from batch_llm.jobs.sinks.files import scratch_prefix
from tests.support.jobs import answer, documents, job, read_lines, run_job, whole_run


def _statuses(path: Path) -> list[str]:
    return sorted(row["status"] for row in read_lines(path))


def test_incomplete_run_does_not_replace_a_complete_output(home: Path) -> None:
    """Its rows are in a partial file next to it, until a complete run replaces both."""
    documents(home, a="one", b="two")
    run_job(job(), "first")
    documents(home, a="one", b="two", c="three")
    made = plan(job(), "second")
    summary = merge(job(), made, stopped="stopped by Ctrl-C")
    assert len(read_lines(home / "out.jsonl")) == 2
    assert _statuses(home / "out.partial.jsonl") == ["not_attempted", "succeeded", "succeeded"]
    assert (summary.output, summary.kept) == (str(home / "out.partial.jsonl"), "out.jsonl")
    run_job(job(), "third")
    assert _statuses(home / "out.jsonl") == ["succeeded"] * 3
    assert not (home / "out.partial.jsonl").exists()


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["out.partial.jsonl", "out.partial.failures.jsonl"])
def test_a_file_of_the_user_at_the_partial_place_is_not_replaced(home: Path, name: str) -> None:
    documents(home, a="one")
    run_job(job(), "first")
    (home / name).write_text("mine")
    with pytest.raises(JobError, match=rf"^{name} exists, and no run of this job wrote it: move or delete it"):
        plan(job(), "second")
    made = plan(job(publish="always"), "third")
    with pytest.raises(JobError, match=f"^{name} exists"):
        merge(job(), made, stopped="stopped by Ctrl-C")
    assert (home / name).read_text() == "mine"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "settings",
    [{}, {"output": "out.csv"}, {"output": "out.parquet"}, {"output": "o.jsonl", "partition_by": ["status"]}],
    ids=["jsonl", "csv", "parquet", "folder"],
)
def test_partial_rows_of_a_deleted_ledger_are_replaced(home: Path, settings: dict[str, Any]) -> None:
    """The rows of a run have its columns, by which they are recognized where no ledger knows them."""
    documents(home, a="one")
    run_job(job(**settings), "first")
    documents(home, a="one", b="two")
    partial = merge(job(**settings), plan(job(**settings), "second"), stopped="stopped by Ctrl-C").output
    assert ".partial" in partial
    shutil.rmtree(home / ".batch-llm")
    made = plan(job(**settings), "third")
    assert merge(job(**settings), made, stopped="stopped by Ctrl-C").output == partial
    run_job(job(**settings), "fourth")
    assert not Path(partial).exists()


def test_incomplete_run_replaces_the_output_if_allowed(home: Path) -> None:
    """If the job allows it with publish="always"."""
    documents(home, a="one")
    run_job(job(), "first")
    documents(home, a="one", b="two")
    merge(job(publish="always"), plan(job(publish="always"), "second"), stopped="stopped by Ctrl-C")
    assert _statuses(home / "out.jsonl") == ["not_attempted", "succeeded"]


def test_a_run_that_lost_its_lease_publishes_nothing(home: Path) -> None:
    """Its answers are in the ledger."""
    documents(home, a="one")
    with hold_lease(job_store(job()), "first", waits_for=print, lost=print) as lease:
        made = plan(job(), "first", lease=lease)
        answer(job(), made)
    with (
        hold_lease(job_store(job()), "second", waits_for=print, lost=print),
        pytest.raises(JobError, match="took over the ledger"),
    ):
        merge(job(), made)
    assert not (home / "out.jsonl").exists()


@pytest.mark.parametrize("settings", [{"output": "out.jsonl"}, {"output": "out.csv", "partition_by": ["id"]}])
def test_what_a_killed_merge_left_is_removed_by_the_next_run(home: Path, settings: dict[str, Any]) -> None:
    """Also next to the failures and the partial rows, which a complete run removes; other folders stay."""
    documents(home, a="one")
    whole_run("first", **settings)
    documents(home, a="one", b="two")
    partial = merge(job(**settings), plan(job(**settings), "second"), stopped="stopped by Ctrl-C").output
    output = OutputPlace.parse(str(settings["output"]))
    for place in (output.place, output.failures.place, partial, output.partial.failures.place):
        left = home / f"{scratch_prefix(home / place)}killed"
        left.mkdir()
        (left / "rows.jsonl").write_text("rows")
    another = home / f"{scratch_prefix(home / 'another.jsonl')}killed"
    another.mkdir()
    whole_run("third", **settings)
    assert {path.name for path in home.iterdir()} == {"docs.jsonl", output.place, ".batch-llm", another.name}


def test_output_folder_that_a_killed_merge_had_moved_away_is_restored(home: Path) -> None:
    """Also by a run that may not replace it."""
    settings: dict[str, Any] = {"output": "out.csv", "partition_by": ["id"]}
    documents(home, a="one")
    output = Path(whole_run("first", **settings).output)
    left = home / f"{scratch_prefix(output)}killed"
    left.mkdir()
    output.rename(left / "old")
    documents(home, a="one", b="two")
    totals = merge(job(**settings), plan(job(**settings), "second"), stopped="stopped by Ctrl-C")
    assert (totals.kept, totals.output) == ("out.csv", str(home / "out.partial.csv"))
    assert {path.name for path in output.iterdir()} == {"id=a"}
    assert not left.exists()


def test_output_keeps_its_mode_and_symbolic_link(home: Path) -> None:
    """No temporary file stays next to it."""
    documents(home, a="one")
    (home / "real.jsonl").touch(0o600)
    (home / "out.jsonl").symlink_to("real.jsonl")
    (home / "real.jsonl").chmod(0o600)
    run_job(job(), "first")
    assert (home / "out.jsonl").is_symlink()
    assert (home / "real.jsonl").stat().st_mode & 0o777 == 0o600
    assert _statuses(home / "real.jsonl") == ["succeeded"]
    assert {path.name for path in home.iterdir()} == {"docs.jsonl", "real.jsonl", "out.jsonl", ".batch-llm"}


def _file(made_for: BatchJob, run: str) -> Path:
    folder = job_store(made_for).folder(run).local
    assert folder is not None
    return next((folder / "ledger").iterdir())


def test_copied_ledger_file_changes_nothing(home: Path) -> None:
    """Each item has one row, and its cost counts once."""
    documents(home, a="one", b="two")
    run_job(job(), "first")
    shutil.copy(_file(job(), "first"), _file(job(), "first").with_name("copy (1).jsonl"))
    made = plan(job(), "second")
    assert made.reused == 2
    summary = merge(job(), made)
    assert (len(read_lines(home / "out.jsonl")), summary.saved_usd) == (2, 1.0)


def test_a_damaged_record_is_called_again(home: Path) -> None:
    """And the plan reports it."""
    documents(home, a="one", b="two")
    run_job(job(), "first")
    file = _file(job(), "first")
    file.write_bytes(file.read_bytes().replace(b"answer to one", b"answer to ooe"))
    made = plan(job(), "second")
    assert made.reused == 1
    assert any("Damaged records" in note for note in made.notes)


def test_damaged_line_of_any_length_loses_only_itself(home: Path) -> None:
    """For example zeros at the end, as a crashed machine leaves them."""
    documents(home, a="one")
    run_job(job(), "first")
    with _file(job(), "first").open("ab") as file:
        file.write(bytes(40_000_000))
    assert plan(job(), "second").reused == 1


def test_dry_run_setting_is_refused_in_a_job() -> None:
    """Otherwise its answers would be recorded."""
    with pytest.raises(JobError, match="--dry-run"):
        job(config={"dry_run": True})


@pytest.mark.sample(1)
@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl"])
def test_output_folder_of_a_complete_run_is_kept_until_the_next_one(home: Path, output: str) -> None:
    """A failed run and a stopped one write the partial folder, which a complete one removes."""
    settings: dict[str, Any] = {"output": output, "partition_by": ["status"]}
    stem, _, ending = output.partition(".")
    partial = home / f"{stem}.partial.{ending}"
    documents(home, a="one", b="two")
    whole_run("first", **settings)
    before = {path.name: path.stat().st_mtime_ns for path in (home / output).rglob("*")}
    documents(home, a="one", b="two", c="three", d="four")
    totals = whole_run("second", fail="cd", **settings)
    assert (totals.output, totals.failures) == (str(partial), str(home / f"{stem}.partial.failures.{ending}"))
    assert {path.name for path in partial.iterdir()} == {"status=failed", "status=succeeded"}
    merge(job(**settings), plan(job(**settings), "third"), stopped="stopped by Ctrl-C")
    assert {path.name for path in partial.iterdir()} == {"status=not_attempted", "status=succeeded"}
    assert {path.name: path.stat().st_mtime_ns for path in (home / output).rglob("*")} == before
    assert whole_run("fourth", **settings).output == str(home / output)
    assert {path.name for path in home.iterdir()} == {"docs.jsonl", output, ".batch-llm"}


def test_output_with_a_long_name_has_a_partial_output(home: Path) -> None:
    """Also for the longest name that the file system allows."""
    output = "ö" * 119 + ".jsonl"  # with .failures, 253 bytes
    documents(home, a="one")
    whole_run("first", output=output)
    documents(home, a="one", b="two")
    totals = whole_run("second", output=output, fail="b")
    assert totals.kept == output
    assert _statuses(Path(totals.output)) == ["failed", "succeeded"]
    assert len(read_lines(home / output)) == 1
    assert whole_run("third", output=output).output == str(home / output)
    assert not list(home.glob("*.partial*"))
