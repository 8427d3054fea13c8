"""One process's part in sharing a limit, as a protocol: what it writes, and what it makes of what the others wrote.

    each cycle:  write what I want and claim -> read all records -> share out, and take it
                   └───────────────── once more where my claim has changed ─────────────┘

No locks: each record has one writer. No clocks compared: a record carries the server's time of its writing, and ours,
just written, is the server's now. Two rules keep the shares in force within the limit, however late news are:

    1. I have no more than what I claim on the board, and no more than what the others' claims on the board leave.
    2. I take less before I claim less.

So whoever takes more has seen what all the others may have at most, and they, whenever they take more, see its claim.
Shrinking works at once, growing when those who have to give way have written so: within two cycles. There is one
exception: a member that cannot write for 15 s looks dead to the others, who share out the whole among them, and goes on
with its last share until it reads again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .fair_share import (
    ALIVE_SECONDS,
    MemberReport,
    Pause,
    PublishedReport,
    curve_fields,
    leader,
    live_reports,
    share_out,
)
from .governor import Governor, UsageSample

CYCLE_SECONDS = 7.0
QUICK_SECONDS = 2.0
"""Until the next cycle after members have come or gone."""

BUSY_SECONDS = 30.0
REWRITE = 0.05
"""A change of the claim that is worth a second round in the same cycle: the others see it, and what is free is ours."""

ROUNDS = 2

_ALMOST = 0.9
_HEADROOM = 1.25
_LITTLE = 0.02
_STEPS = 20
"""Wants are rounded up to twentieths, so that shares stand still while use trembles."""


class ScopeMember:
    """One process under a scope's limit. Plain numbers; `now` is the time of the governor, `time.monotonic()`.

    Attributes:
        id: Its name on the board.
        share: What is in force of the whole, 0 to 1.
        claim: What stands on the board, or is to stand there next.
        seconds: Until the next cycle.
    """

    def __init__(self, id: str, governor: Governor, now: float) -> None:
        self.id = id
        self.share = 0.0
        self.claim = 1.0
        self.cycle_seconds = QUICK_SECONDS
        self._governor = governor
        self._stock = governor.sample_usage(now)
        self._want = self._wanted = 1.0
        self._busy_until = -math.inf
        self._on_board = 1.0
        self._sent_at = self._wrote_at = -math.inf
        self._ahead = math.nan  # the server's clock of ours
        self._others: frozenset[str] = frozenset()
        self._own = Pause(id, 0.0, 0.0, governor.curve)
        self._last: dict[str, float] = {}  # when the latest pause of another member began
        self._heard = 0.0
        self._until = 0.0

    # The cycle.

    def sample_usage(self, now: float) -> None:
        """See what was used since the last cycle, and what is wanted from that."""
        stock = self._stock = self._governor.sample_usage(now)
        if stock.short or stock.started or stock.paused_until > now:
            self._busy_until = now + BUSY_SECONDS
        waits_for_others = stock.short and self.share < _ALMOST * self._on_board
        if stock.paused_until <= now and not waits_for_others:  # either tells nothing of what it would use
            self._wanted, before = _want(stock), self._wanted
            self._want = max(before, self._wanted)

    def report(self, now: float) -> MemberReport:
        """Return what to write."""
        return MemberReport(
            want=self._want,
            claim=self.claim,
            **curve_fields(self._stock.curve),
            held=self._stock.held,
            busy=now < self._busy_until,
            began=self._own.began,
            until=self._own.until,
            heard=self._heard,
        )

    def on_written(self, sent: float, now: float) -> None:
        """Note that what it says stands on the board since a moment between `sent` and `now`."""
        if now - self._sent_at > ALIVE_SECONDS:
            self.share = 0.0  # the others may have taken us for dead, and have shared out what was ours
        self._sent_at, self._wrote_at, self._on_board = sent, (sent + now) / 2, self.claim

    def on_reports(self, records: Sequence[PublishedReport], now: float) -> bool:
        """Take what the records say; whether the claim has changed so much that it should be written at once."""
        mine = next((record for record in records if record.id == self.id), None)
        if mine is None:
            return True  # removed by somebody's cleaning; without a record nothing may be claimed
        self._ahead = mine.written_at - self._wrote_at
        self._until = max(self._until, mine.created_at)  # what was before is no news
        living = live_reports(records, mine.written_at)
        others = [record for record in living if record.id != self.id]
        self._take(living, others)
        for record in others:
            self.on_pause(Pause(record.id, record.report.began, record.report.until, record.report.curve), now)
        self._lead_or_follow(leader(living), others, now)
        names = frozenset(record.id for record in others)
        self.cycle_seconds = CYCLE_SECONDS if names == self._others else QUICK_SECONDS
        self._others = names
        self._last = {name: began for name, began in self._last.items() if name in names}
        return abs(self.claim - self._on_board) > REWRITE

    def _take(self, living: Sequence[PublishedReport], others: Sequence[PublishedReport]) -> None:
        wants = {record.id: record.report.want for record in living}
        target = share_out(wants | {self.id: self._want})[self.id]
        room = max(0.0, 1.0 - sum(record.report.claim for record in others))
        self.share = min(target, self._on_board, max(self.share, room))
        place = sum(record.id < self.id for record in others) / len(living)
        self._governor.set_share(self.share, place=place, is_waiting=self.share < _ALMOST * target)
        self.claim = target

    def _lead_or_follow(self, leads: PublishedReport, others: Sequence[PublishedReport], now: float) -> None:
        if leads.id == self.id:
            if any(record.report.held for record in others):
                self._governor.require_share(now + 2 * CYCLE_SECONDS)
        elif leads.report.heard >= self._heard:  # else its rate is from before a refusal
            age = max(0.0, now + self._ahead - leads.written_at) if leads.report.held else 0.0
            self._governor.follow(leads.report.curve, age)

    # Pauses.

    def on_rate_limit(self, until: float, now: float) -> Pause | None:
        """Note a rate limit that calls of ours met; return what to tell the others, once the server's time is known."""
        if math.isnan(self._ahead):
            return None
        self._own = Pause(
            self.id, now + self._ahead, until + self._ahead, self._governor.curve, self._governor.episodes
        )
        self._heard = max(self._heard, self._own.began)
        self._until = max(self._until, self._own.until)
        return self._own

    def on_pause(self, pause: Pause, now: float) -> None:
        """Pause with another member; cut once more where its rate limit is none that is known already."""
        if math.isnan(self._ahead) or pause.member == self.id or pause.began <= self._last.get(pause.member, 0.0):
            return
        self._last[pause.member] = pause.began
        self._heard = max(self._heard, pause.began)
        until = pause.until - self._ahead
        if until > now or pause.began > self._until:
            self._governor.pause_for_others(max(until, now), now, pause.curve, pause.episodes)
        self._until = max(self._until, pause.until)


def _want(stock: UsageSample) -> float:
    if stock.short:
        return 1.0
    used = _HEADROOM * stock.started / stock.curve.rate + _LITTLE
    return min(1.0, math.ceil(used * _STEPS) / _STEPS)
