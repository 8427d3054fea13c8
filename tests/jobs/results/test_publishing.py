"""What may take the place of an output, and what may not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, job_store, merge, plan
from batch_llm.jobs.ledger.lease import hold
from tests.support.jobs import answer, documents, job, night, read_lines, whole_run


def _statuses(path: Path) -> list[str]:
    return sorted(row["status"] for row in read_lines(path))


def test_a_run_that_is_not_complete_leaves_a_complete_output(home: Path) -> None:
    """Its rows are beside it, until a complete run replaces both."""
    documents(home, a="one", b="two")
    night(job(), "first")
    documents(home, a="one", b="two", c="three")
    made = plan(job(), "second")
    summary = merge(job(), made, stopped="stopped by Ctrl-C")
    assert len(read_lines(home / "out.jsonl")) == 2
    assert _statuses(home / "out.partial.jsonl") == ["not_attempted", "succeeded", "succeeded"]
    assert (summary.output, summary.kept) == (str(home / "out.partial.jsonl"), "out.jsonl")
    night(job(), "third")
    assert _statuses(home / "out.jsonl") == ["succeeded"] * 3
    assert not (home / "out.partial.jsonl").exists()


def test_a_run_may_always_publish(home: Path) -> None:
    """Where the job says so."""
    documents(home, a="one")
    night(job(), "first")
    documents(home, a="one", b="two")
    merge(job(publish="always"), plan(job(publish="always"), "second"), stopped="stopped by Ctrl-C")
    assert _statuses(home / "out.jsonl") == ["not_attempted", "succeeded"]


def test_a_run_that_lost_its_lease_publishes_nothing(home: Path) -> None:
    """Whatever it had answered is in the ledger."""
    documents(home, a="one")
    with hold(job_store(job()), "first", waits_for=print, lost=print) as lease:
        made = plan(job(), "first", lease=lease)
        answer(job(), made)
    with (
        hold(job_store(job()), "second", waits_for=print, lost=print),
        pytest.raises(JobError, match="took over the ledger"),
    ):
        merge(job(), made)
    assert not (home / "out.jsonl").exists()


def test_an_output_keeps_its_mode_and_its_link(home: Path) -> None:
    """And nothing of what it was written in stays beside it."""
    documents(home, a="one")
    (home / "real.jsonl").touch(0o600)
    (home / "out.jsonl").symlink_to("real.jsonl")
    (home / "real.jsonl").chmod(0o600)
    night(job(), "first")
    assert (home / "out.jsonl").is_symlink()
    assert (home / "real.jsonl").stat().st_mode & 0o777 == 0o600
    assert _statuses(home / "real.jsonl") == ["succeeded"]
    assert {path.name for path in home.iterdir()} == {"docs.jsonl", "real.jsonl", "out.jsonl", ".batch-llm"}


def _file(made_for: BatchJob, run: str) -> Path:
    folder = job_store(made_for).folder(run).local
    assert folder is not None
    return next((folder / "ledger").iterdir())


def test_a_copy_of_a_ledger_file_changes_nothing(home: Path) -> None:
    """Each item has one row, and what it cost counts once."""
    documents(home, a="one", b="two")
    night(job(), "first")
    shutil.copy(_file(job(), "first"), _file(job(), "first").with_name("copy (1).jsonl"))
    made = plan(job(), "second")
    assert made.reused == 2
    summary = merge(job(), made)
    assert (len(read_lines(home / "out.jsonl")), summary.saved_usd) == (2, 1.0)


def test_a_damaged_record_is_called_again(home: Path) -> None:
    """And the plan reports it."""
    documents(home, a="one", b="two")
    night(job(), "first")
    file = _file(job(), "first")
    file.write_bytes(file.read_bytes().replace(b"answer to one", b"answer to ooe"))
    made = plan(job(), "second")
    assert made.reused == 1
    assert any("Damaged records" in note for note in made.notes)


def test_a_line_of_any_length_costs_itself_alone(home: Path) -> None:
    """A tail of zeros, as a lost machine leaves it."""
    documents(home, a="one")
    night(job(), "first")
    with _file(job(), "first").open("ab") as file:
        file.write(bytes(40_000_000))
    assert plan(job(), "second").reused == 1


def test_a_dry_run_is_no_job() -> None:
    """Its answers would be kept."""
    with pytest.raises(JobError, match="--dry-run"):
        job(config={"dry_run": True})


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl"])
def test_a_folder_of_a_complete_run_stays_until_the_next_one(home: Path, output: str) -> None:
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


def test_an_output_with_a_long_name_has_a_partial_one(home: Path) -> None:
    """Names as long as a file system allows; the rows of an incomplete run are not lost for them."""
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
