"""Display of a running run."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from batch_llm.cli.terminal.live import Rate, View, facts, folded, phase, waits
from batch_llm.cli.terminal.screen import Screen
from batch_llm.jobs import Progress
from batch_llm.jobs.ledger.progress import Retry
from batch_llm.jobs.messages import throughput

pytestmark = pytest.mark.shell


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rate_after(steps: list[tuple[float, int]]) -> float:
    clock = Clock()
    rate = Rate(clock)
    for at, done in steps:
        clock.now = at
        rate.update(done)
    return rate.per_second


def test_rate_does_not_include_a_slow_start() -> None:
    steps = [(float(at), 0) for at in range(60)] + [(60.0 + at, 10 * at) for at in range(60)]
    assert rate_after(steps) == pytest.approx(10, rel=0.05)


def test_a_slow_model_has_a_rate_too() -> None:
    """At one item in 20 seconds, a window of 30 seconds has too few items."""
    assert rate_after([(float(at), at // 20) for at in range(200)]) == pytest.approx(1 / 20, rel=0.2)


def test_reused_answers_do_not_count_for_the_rate() -> None:
    assert rate_after([(0.0, 900), (10.0, 910)]) == 1


def test_a_rate_is_not_shown_before_it_is_known() -> None:
    assert rate_after([]) == rate_after([(1.0, 5)]) == 0
    assert "items/" not in facts(Progress(total=10), 0)


def test_a_rate_below_one_is_shown_per_minute() -> None:
    assert [throughput(value) for value in (0.05, 2.34, 1234.4)] == ["3.0 items/min", "2.3 items/s", "1,234 items/s"]


def test_the_numbers_of_a_run_are_one_line() -> None:
    progress = Progress(
        total=1000,
        done=400,
        succeeded=300,
        reused=97,
        failed=3,
        input_tokens=123456,
        output_tokens=789,
        cost_usd=1.5,
        categories={"timeout": 1, "server_error": 2},
        paused_seconds=42,
    )
    assert facts(progress, 10) == (
        "10.0 items/s · ETA 2 min · tokens 123,456 in, 789 out · $1.50 · 97 reused · "
        "3 failed (2 server_error, 1 timeout) · rate limited: calls continue in 42 s"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1500, "rate limited: calls continue in 25 min, at "),
        (7200, "daily limit is used up: calls continue in 2.0 h, at "),
    ],
)
def test_the_end_of_a_long_wait_is_a_time(seconds: float, words: str) -> None:
    began = time.time()
    line = facts(Progress(total=10, paused_seconds=seconds), 0)
    moments = (began + seconds, time.time() + seconds)
    assert line.partition(words)[2][-5:] in {time.strftime("%H:%M", time.localtime(moment)) for moment in moments}


@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_narrow_terminal_breaks_between_two_facts(width: int) -> None:
    line = facts(
        Progress(total=10, done=4, failed=312, reused=97, categories={"server_error": 312}, limit=50, is_limited=True),
        3,
    )
    lines = folded(line, width).splitlines()
    assert " · ".join(lines) == line
    assert all(len(each) <= width or " · " not in each for each in lines)


def test_an_estimate_does_not_grow_while_nothing_finishes() -> None:
    """The last item takes a minute: the rate of the others stays, and so does the estimate."""
    steps = [(float(at), 10 * at) for at in range(11)]
    assert rate_after([*steps, *((10.0 + at, 100) for at in range(60))]) == rate_after(steps) == 10


def test_waits_do_not_count_for_the_rate() -> None:
    clock = Clock()
    rate = Rate(clock)
    for at in range(80):
        clock.now = float(at)
        done = 10 * at if at < 10 else 100 if at < 70 else 10 * (at - 60)
        rate.update(done, waits=10 < at <= 70)
    assert rate.per_second == pytest.approx(10, rel=0.05)


def at_noon(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
    monkeypatch.setattr("time.time", lambda: 43_200.0 + seconds)


def test_a_wait_for_a_retry_is_shown_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate covers the wait and the remaining work, and does not grow during the wait."""
    at_noon(monkeypatch)
    retry = Retry(items=1, shards=1, shard=1, category="server_error", at=43_236.0)
    progress = Progress(total=400, done=399, succeeded=399, retry=retry, failed=1, categories={"server_error": 1})
    line = "1 item left after server_error; shard 1 retries"
    assert facts(progress, 10.0).endswith(f"{line} in 36 s")
    assert "ETA 36 s" in facts(progress, 10.0)
    assert facts(progress, 10.0, clock_time=True).endswith(f"{line} at 12:00:36 UTC")
    assert waits(progress)
    assert not waits(replace(progress, done=300))
    assert "ETA 36 s" in facts(replace(progress, done=300), 10.0), "the other items take 10 s"
    assert "ETA 2 min" in facts(replace(progress, done=300), 1.0)
    at_noon(monkeypatch, seconds=20)
    assert "ETA 16 s" in facts(progress, 10.0)
    at_noon(monkeypatch, seconds=40)
    assert facts(progress, 10.0).endswith(f"{line} when workers are free")
    both = replace(retry, items=12, shards=2, at=43_300.0)
    assert facts(replace(progress, retry=both), 10.0).endswith(
        "12 items left after server_error; 2 shards retry, shard 1 in 60 s"
    )


def test_a_rate_to_which_a_run_has_grown_is_not_shown_as_a_limit() -> None:
    assert "limit" not in facts(Progress(total=10, done=1, limit=10.0), 1)
    assert "limit 600 calls/min" in facts(Progress(total=10, done=1, limit=10.0, is_limited=True), 1)


def test_an_unknown_price_is_not_shown_as_zero() -> None:
    assert "unpriced" in facts(Progress(total=1, cost_usd=None), 0)


@pytest.mark.parametrize(
    ("progress", "stopping", "what"),
    [
        (Progress(), False, "Starting and planning"),
        (Progress(total=5, done=1, shards=1), False, ""),
        (Progress(total=5, done=5, shards=1, shards_done=1), False, ""),
        (Progress(total=5, done=3, shards=2, publishing=True), False, "Writing results"),
        (Progress(total=5, done=1), True, "Stopping: waiting for calls in flight (press Ctrl-C again to kill)"),
    ],
)
def test_a_phase_is_named(progress: Progress, stopping: bool, what: str) -> None:
    assert phase(progress, stopping=stopping) == what


def test_without_a_terminal_a_run_is_a_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A phase is printed once, progress every ten seconds, and no line has a control character."""
    with View(Screen(), "nightly") as view:
        for _ in range(3):
            view.show(Progress())
        for done in range(1, 10):
            view.show(Progress(total=10, done=done))
        view.show(Progress(total=10, done=10, publishing=True))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["Starting and planning", "nightly 1/10", "nightly 10/10"]
    assert "\x1b" not in "".join(lines)
