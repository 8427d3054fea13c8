"""Protocol by which the processes in a scope share a limit: the reports of one process, and its use of the others.

    each cycle:  write own want and claim -> read all reports -> compute the shares, and use the own share
                   └──────────────────── once more if the own claim has changed ──────────────────┘

There are no locks, because each report has one writer. Clocks are not compared: a report contains the server's time of
its last write, and the time of our report, just written, is the server's current time. Two rules keep the sum of the
used shares within the limit, however late the reports are:

    1. A process uses no more than its published claim, and no more than the other published claims leave.
    2. A process reduces its share before it reduces its claim.

So a process that takes more has seen the largest shares of all others, and each of the others sees its claim before
taking more. Shrinking takes effect immediately, growing after the other processes have published smaller claims: within
two cycles. There is one exception: a process that cannot write for 15 s is expired for the others, which divide the
whole limit, while it continues with its last share until it reads again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .call_rate import UsageSample
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
from .scope_port import ScopePort

CYCLE_SECONDS = 7.0
QUICK_SECONDS = 2.0
"""Seconds until the next cycle after processes joined or left."""

BUSY_SECONDS = 30.0
REWRITE = 0.05
"""Change of the claim that triggers a second round in the same cycle, so that others see it and free share is used."""

ROUNDS = 2

_ALMOST = 0.9
_HEADROOM = 1.25
_LITTLE = 0.02
_STEPS = 20
"""Wants are rounded up to twentieths, so that small changes of usage do not change the shares."""


class ScopeMember:
    """One process in a scope; `now` is the governor's time, `time.monotonic()`.

    Attributes:
        id: Id of the process in the scope.
        share: Share of the limit that the process uses, 0 to 1.
        claim: Claim in the published report, or in the next one.
        cycle_seconds: Seconds until the next cycle.
    """

    def __init__(self, id: str, scope: ScopePort, now: float) -> None:
        self.id = id
        self.share = 0.0
        self.claim = 1.0
        self.cycle_seconds = QUICK_SECONDS
        self._scope = scope
        self._sample = scope.sample_usage(now)
        self._want = self._sampled_want = 1.0
        self._busy_until = -math.inf
        self._published_claim = 1.0
        self._sent_at = self._wrote_at = -math.inf
        self._server_offset = math.nan  # the server's clock minus ours
        self._other_ids: frozenset[str] = frozenset()
        self._own = Pause(id, 0.0, 0.0, scope.curve)
        self._began_by_member: dict[str, float] = {}  # start of the latest cooldown of each other member
        self._latest_began = 0.0
        self._latest_until = 0.0

    def sample_usage(self, now: float) -> None:
        """Sample the usage since the last cycle, and derive the wanted share."""
        sample = self._sample = self._scope.sample_usage(now)
        if sample.short or sample.started or sample.paused_until > now:
            self._busy_until = now + BUSY_SECONDS
        waits_for_others = sample.short and self.share < _ALMOST * self._published_claim
        if sample.paused_until <= now and not waits_for_others:  # else the sample does not show the potential usage
            self._sampled_want, before = _want(sample), self._sampled_want
            self._want = max(before, self._sampled_want)

    def report(self, now: float) -> MemberReport:
        """Return the report to publish."""
        return MemberReport(
            want=self._want,
            claim=self.claim,
            **curve_fields(self._sample.curve),
            held=self._sample.held,
            busy=now < self._busy_until,
            began=self._own.began,
            until=self._own.until,
            heard=self._latest_began,
        )

    def on_written(self, sent: float, now: float) -> None:
        """Record that the report was written at a time between `sent` and `now`."""
        if now - self._sent_at > ALIVE_SECONDS:
            self.share = 0.0  # the others may have treated our report as expired and divided our share
        self._sent_at, self._wrote_at, self._published_claim = sent, (sent + now) / 2, self.claim

    def on_reports(self, records: Sequence[PublishedReport], now: float) -> bool:
        """Apply the reports of all processes; return whether the claim has changed so much that it must be written."""
        mine = next((record for record in records if record.id == self.id), None)
        if mine is None:
            return True  # another process removed our expired report; without a report there is no claim
        self._server_offset = mine.written_at - self._wrote_at
        self._latest_until = max(
            self._latest_until, mine.created_at
        )  # cooldowns from before this process joined are not new
        living = live_reports(records, mine.written_at)
        others = [record for record in living if record.id != self.id]
        self._update_share(living, others)
        for record in others:
            self.on_pause(Pause(record.id, record.report.began, record.report.until, record.report.curve), now)
        self._lead_or_follow(leader(living), others, now)
        names = frozenset(record.id for record in others)
        self.cycle_seconds = CYCLE_SECONDS if names == self._other_ids else QUICK_SECONDS
        self._other_ids = names
        self._began_by_member = {name: began for name, began in self._began_by_member.items() if name in names}
        return abs(self.claim - self._published_claim) > REWRITE

    def _update_share(self, living: Sequence[PublishedReport], others: Sequence[PublishedReport]) -> None:
        wants = {record.id: record.report.want for record in living}
        target = share_out(wants | {self.id: self._want})[self.id]
        room = max(0.0, 1.0 - sum(record.report.claim for record in others))
        self.share = min(target, self._published_claim, max(self.share, room))
        place = sum(record.id < self.id for record in others) / len(living)
        self._scope.set_share(self.share, place=place, is_waiting=self.share < _ALMOST * target)
        self.claim = target

    def _lead_or_follow(self, leads: PublishedReport, others: Sequence[PublishedReport], now: float) -> None:
        if leads.id == self.id:
            if any(record.report.held for record in others):
                self._scope.require_share(now + 2 * CYCLE_SECONDS)
        elif leads.report.heard >= self._latest_began:  # else its rate is from before a rate limit
            age = max(0.0, now + self._server_offset - leads.written_at) if leads.report.held else 0.0
            self._scope.follow(leads.report.curve, age)

    # Cooldowns.

    def on_rate_limit(self, until: float, now: float) -> Pause | None:
        """Record a rate limit of own calls; return the cooldown to publish, or None until the server time is known."""
        if math.isnan(self._server_offset):
            return None
        self._own = Pause(
            self.id,
            now + self._server_offset,
            until + self._server_offset,
            self._scope.curve,
            self._scope.episodes,
        )
        self._latest_began = max(self._latest_began, self._own.began)
        self._latest_until = max(self._latest_until, self._own.until)
        return self._own

    def on_pause(self, pause: Pause, now: float) -> None:
        """Start the cooldown of another process; cut the rate again if its rate limit is not known yet."""
        if (
            math.isnan(self._server_offset)
            or pause.member == self.id
            or pause.began <= self._began_by_member.get(pause.member, 0.0)
        ):
            return
        self._began_by_member[pause.member] = pause.began
        self._latest_began = max(self._latest_began, pause.began)
        until = pause.until - self._server_offset
        if until > now or pause.began > self._latest_until:
            self._scope.pause_for_others(max(until, now), now, pause.curve, pause.episodes)
        self._latest_until = max(self._latest_until, pause.until)


def _want(sample: UsageSample) -> float:
    if sample.short:
        return 1.0
    used = _HEADROOM * sample.started / sample.curve.rate + _LITTLE
    return min(1.0, math.ceil(used * _STEPS) / _STEPS)
