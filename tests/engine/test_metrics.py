"""Metrics of a run from `MetricsObserver`: numbers, JSON and Prometheus text, in bounded memory."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from batch_llm import MetricsObserver, ProcessingEvent
from tests.support.scripted_strategies import Item, Scripted, config, failure, items, process, rate_limit

EVENT = ProcessingEvent


async def observed() -> MetricsObserver:
    metrics = MetricsObserver()
    work = [
        *items(98, Scripted([[2.0]])),
        Item("retried", Scripted([[failure()], [rate_limit(5)], [1.0]])),
        Item("bad", Scripted([[20.0, failure('odd "category"\n', retryable=False)]])),
    ]
    await process(work, config(100), observers=[metrics])
    return metrics


@pytest.mark.looptime
async def test_metrics_count_the_items_of_a_run() -> None:
    metrics = await (await observed()).get_metrics()
    times = [metrics.pop(f"p{share}_processing_time") for share in (50, 95, 99)]
    assert times == [pytest.approx(2, rel=0.19), pytest.approx(2, rel=0.19), pytest.approx(7, rel=0.19)]
    assert metrics.pop("avg_processing_time") == pytest.approx((98 * 2 + 7 + 20) / 100)
    assert metrics == {
        "items_processed": 100,
        "items_succeeded": 99,
        "items_failed": 1,
        "success_rate": 0.99,
        "retries": 1,
        "rate_limits": 1,
        "rate_limit_seconds": 5,
        "limit_per_second": None,
        "total_input_tokens": 99,
        "total_output_tokens": 198,
        "errors": {'odd "category"\n': 1},
    }


@pytest.mark.looptime
async def test_quantile_is_between_the_lowest_and_highest_duration() -> None:
    metrics = MetricsObserver()
    await process([Item("one", Scripted([[1.25]]))], observers=[metrics])
    found = await metrics.get_metrics()
    assert [found[f"p{share}_processing_time"] for share in (50, 95, 99)] == [1.25] * 3


@pytest.mark.looptime
async def test_metrics_as_json_and_dict() -> None:
    metrics = await observed()
    assert json.loads(await metrics.export_json()) == await metrics.export_dict() == await metrics.get_metrics()


@pytest.mark.looptime
async def test_metrics_in_a_format_that_prometheus_reads() -> None:
    exported = await (await observed()).export_prometheus()
    families = {each.name: each for each in text_string_to_metric_families(exported)}
    samples = {
        (each.name, *each.labels.values()): each.value for family in families.values() for each in family.samples
    }
    buckets = {float(key[1]): samples.pop(key) for key in list(samples) if key[0] == "batch_llm_item_seconds_bucket"}
    assert samples.pop(("batch_llm_item_seconds_sum",)) == pytest.approx(98 * 2 + 7 + 20)
    assert samples == {
        ("batch_llm_items_total", "succeeded"): 99,
        ("batch_llm_items_total", "failed"): 1,
        ("batch_llm_errors_total", 'odd "category"\n'): 1,
        ("batch_llm_retries_total",): 1,
        ("batch_llm_rate_limits_total",): 1,
        ("batch_llm_rate_limit_seconds_total",): 5,
        ("batch_llm_tokens_total", "input"): 99,
        ("batch_llm_tokens_total", "output"): 198,
        ("batch_llm_item_seconds_count",): 100,
    }
    for bound, count in buckets.items():
        assert count == 98 * (bound >= 2) + (bound >= 7) + (bound >= 20)
    assert max(buckets) == float("inf")
    kinds = {family.type: name for name, family in families.items()}
    assert kinds.keys() == {"counter", "histogram"}
    assert kinds["histogram"] == "batch_llm_item_seconds"
    assert all(family.documentation for family in families.values())


async def test_metrics_without_items_are_zero() -> None:
    metrics = MetricsObserver()
    empty = await metrics.get_metrics()
    assert (empty["success_rate"], empty["avg_processing_time"], empty["p99_processing_time"]) == (0, 0, 0)
    assert list(text_string_to_metric_families(await metrics.export_prometheus()))


async def fed(durations: list[float]) -> MetricsObserver:
    metrics = MetricsObserver()
    for duration in durations:
        data: dict[str, Any] = {"item_id": "a", "duration": duration, "attempts": 1, "tokens": {}}
        await metrics.on_event(EVENT.ITEM_COMPLETED, data)
    return metrics


@given(st.lists(st.floats(0.001, 30_000), min_size=1))
async def test_quantiles_are_off_by_a_fifth_at_most(durations: list[float]) -> None:
    metrics = await (await fed(durations)).get_metrics()
    ranked = sorted(durations)
    for share in (50, 95, 99):
        exact = ranked[-(-share * len(ranked) // 100) - 1]
        assert exact * 0.999 <= metrics[f"p{share}_processing_time"] <= exact * 1.19
    assert metrics["avg_processing_time"] == pytest.approx(sum(durations) / len(durations))


async def test_memory_does_not_grow_with_the_items() -> None:
    few, many = [await fed([number / 7 for number in range(count)]) for count in (100, 20_000)]
    assert abs(len(pickle.dumps(many)) - len(pickle.dumps(few))) < 1_000


async def test_item_without_a_call_does_not_count_for_the_average_time() -> None:
    metrics = MetricsObserver()
    data: dict[str, Any] = {"item_id": "a", "duration": 0.0, "attempts": 0, "tokens": {}}
    data |= {"error": "", "category": "not_attempted"}
    await metrics.on_event(EVENT.ITEM_FAILED, data)
    await metrics.on_event(EVENT.ITEM_COMPLETED, data | {"duration": 4.0, "attempts": 1})
    assert (await metrics.get_metrics())["avg_processing_time"] == 4.0


async def test_a_governed_run_exports_the_limit_in_force() -> None:
    metrics = MetricsObserver()
    await metrics.on_event(EVENT.RATE_LIMIT_HIT, {"item_id": "a", "pause": 5.0, "limit": 45.5})
    assert (await metrics.get_metrics())["limit_per_second"] == 45.5
    assert (
        "# TYPE batch_llm_limit_per_second gauge\nbatch_llm_limit_per_second 45.5\n"
        in await metrics.export_prometheus()
    )


async def test_retries_and_cooldowns_add_up_and_the_latest_limit_counts() -> None:
    metrics = MetricsObserver()
    for limit in ({"limit": 45.5}, {}):
        await metrics.on_event(EVENT.RETRY_SCHEDULED, {})
        await metrics.on_event(EVENT.RATE_LIMIT_HIT, {"pause": 5.0, **limit})
    seen = await metrics.get_metrics()
    assert (seen["retries"], seen["rate_limits"], seen["rate_limit_seconds"]) == (2, 2, 10.0)
    assert seen["limit_per_second"] is None


async def test_returned_metrics_do_not_change_later() -> None:
    metrics = MetricsObserver()
    data: dict[str, Any] = {"item_id": "a", "duration": 1.0, "attempts": 1, "tokens": {}, "category": "back\\slash"}
    await metrics.on_event(EVENT.ITEM_FAILED, data)
    before = await metrics.get_metrics()
    await metrics.on_event(EVENT.ITEM_FAILED, data)
    assert before["errors"] == {"back\\slash": 1}
    assert 'category="back\\\\slash"} 2' in await metrics.export_prometheus()
