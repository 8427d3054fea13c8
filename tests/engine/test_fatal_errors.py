"""Errors that end a run: some at the first item, others only after several in a row."""

from __future__ import annotations

import pytest

from batch_llm import Governor
from tests.support.governed_runs import governed
from tests.support.scripted_strategies import Batch, Item, Scripted, config, failure, items, process

pytestmark = pytest.mark.looptime


def denied(count: int, category: str, first: str = "denied") -> list[Item]:
    return [Item(f"{first}-{number}", Scripted([[failure(category, retryable=False)]])) for number in range(count)]


def counts(batch: Batch) -> dict[str, int]:
    found = [each.error_info.category if each.error_info else "succeeded" for each in batch.results]
    return {name: found.count(name) for name in found}


@pytest.mark.parametrize("category", ["quota_exhausted", "model_not_found"])
async def test_used_up_quota_or_retired_model_ends_a_run_after_successes(category: str) -> None:
    batch = await process([*items(20, Scripted()), *denied(20, category)], config(1))
    assert counts(batch) == {"succeeded": 20, category: 1, "not_attempted": 19}


async def test_key_that_was_never_accepted_ends_the_run_at_its_first_call() -> None:
    batch = await process([*denied(1, "auth"), *items(20, Scripted())], config(1))
    assert counts(batch) == {"auth": 1, "not_attempted": 20}


@pytest.mark.parametrize("category", ["auth", "forbidden", "not_found"])
async def test_one_denied_item_fails_alone_after_others_were_answered(category: str) -> None:
    first, *others = items(21, Scripted())
    batch = await process([first, *denied(1, category), *others], config(1))
    assert counts(batch) == {"succeeded": 21, category: 1}


@pytest.mark.parametrize("category", ["forbidden", "not_found"])
async def test_error_that_is_not_about_the_key_fails_only_its_item_even_as_the_first(category: str) -> None:
    batch = await process([*denied(4, category), *items(20, Scripted())], config(1))
    assert counts(batch) == {category: 4, "succeeded": 20}


@pytest.mark.parametrize(("category", "calls"), [("auth", 10), ("forbidden", 10), ("not_found", 5)])
async def test_many_denied_items_in_a_row_end_the_run(category: str, calls: int) -> None:
    batch = await process([*items(5, Scripted()), *denied(40, category)], config(1))
    assert counts(batch) == {"succeeded": 5, category: calls, "not_attempted": 40 - calls}


async def test_answers_between_denied_items_keep_the_run_going() -> None:
    work = [*items(1, Scripted())]
    for turn in range(6):
        work += [*denied(9, "auth", f"denied-{turn}"), Item(f"ok-{turn}", Scripted())]
    assert counts(await process(work, config(1))) == {"succeeded": 7, "auth": 54}


async def test_blocked_prompt_shows_that_the_key_is_accepted() -> None:
    work = [*items(1, Scripted()), *denied(9, "auth"), *denied(1, "content_filter", "blocked"), *denied(9, "auth", "x")]
    assert counts(await process(work, config(1))) == {"succeeded": 1, "auth": 18, "content_filter": 1}


async def test_governor_remembers_answers_of_other_runs() -> None:
    """The second shard of a run continues although its first row is refused like a bad key."""
    governor = Governor()
    await governed(items(3, Scripted()), governor)
    batch = await governed([*denied(1, "auth"), *items(3, Scripted())], governor, workers=1)
    assert counts(batch) == {"auth": 1, "succeeded": 3}
