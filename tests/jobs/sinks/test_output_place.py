"""Places of an output, its failures and its partial rows."""

from __future__ import annotations

import pickle

import pytest

from batch_llm.jobs.sinks import OutputPlace


@pytest.mark.parametrize(
    ("output", "failures", "partial", "format_and_packing"),
    [
        ("out.jsonl", "out.failures.jsonl", "out.partial.jsonl", (".jsonl", "")),
        (
            "s3://bucket/a.b/out.CSV.gz",
            "s3://bucket/a.b/out.failures.CSV.gz",
            "s3://bucket/a.b/out.partial.CSV.gz",
            None,
        ),
        ("sqlite:///a.db#t", "sqlite:///a.db#t_failures", "sqlite:///a.db#t_partial", ("", "")),
        ("postgresql://h/d#s.t", "postgresql://h/d#s.t_failures", "postgresql://h/d#s.t_partial", ("", "")),
    ],
)
def test_failures_and_partial_rows_are_next_to_the_output(
    output: str, failures: str, partial: str, format_and_packing: tuple[str, str] | None
) -> None:
    """They have its format, and only the partial rows have its partitions."""
    place = OutputPlace.parse(output, ["topic"])
    assert (place.failures.place, place.partial.place) == (failures, partial)
    for each in (place, place.failures, place.partial):
        assert (each.ending, each.packing) == (format_and_packing or (".csv", ".gz"))
    assert (place.partition_by, place.partial.partition_by, place.failures.partition_by) == (("topic",), ("topic",), ())
    assert place.partial.failures.place != place.failures.place
    assert pickle.loads(pickle.dumps(place)) == place


def test_text_of_a_place_has_no_password() -> None:
    place = OutputPlace.parse("postgresql://me:hunter2-secret@host/db?password=hunter2-secret#rows")
    assert "hunter2-secret" not in f"{place!r} {place} {place.table!r} {place.failures!r}"
    assert "host/db" in repr(place)
