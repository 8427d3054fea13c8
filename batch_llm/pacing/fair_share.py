"""Reports of the processes in a scope, and the division of a limit between them, as pure functions.

Each process that makes calls under a scope's limit publishes one report and reads the reports of all processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from .adaptive_rate import RateCurve

ALIVE_SECONDS = 15.0
"""Age, relative to our own report, at which a report is expired: a live process would have written twice since."""


_CURVE_FIELDS = {
    "rate": "rate",
    "plateau": "top",
    "drop_ratio": "drop",
    "seconds_to_plateau": "way",
    "seconds_since_cut": "grown",
}
"""Attributes of a `RateCurve`, and their names in records and events, which other versions read as well."""


def curve_fields(curve: RateCurve) -> dict[str, Any]:
    """Return a curve under the field names of records and events."""
    return {field: getattr(curve, attribute) for attribute, field in _CURVE_FIELDS.items()}


def curve_attributes(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a curve in a record or an event under the names of its attributes."""
    return {attribute: fields[field] for attribute, field in _CURVE_FIELDS.items() if field in fields}


class MemberReport(BaseModel, frozen=True):
    """Report of one process; times are seconds on the server's clock, which all processes share.

    Attributes:
        want: Share of the limit that the process could use, 0 to 1; 1 for as much as possible, 0 if it has left.
        claim: Share of the limit that the process uses or is about to use.
        rate, top, drop, way, grown: Rate that its governor has detected for the whole scope, with the state of its
            growth.
        held: Whether its calls recently had to wait for the rate.
        busy: Whether it recently made calls.
        began: Start of its latest own cooldown.
        until: End of its latest own cooldown.
        heard: Start of the latest cooldown, its own or another process's, that its rate accounts for.
    """

    want: float = Field(ge=0, le=1, allow_inf_nan=False)
    claim: float = Field(ge=0, le=1, allow_inf_nan=False)
    rate: float = Field(gt=0, allow_inf_nan=False)
    top: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    drop: float = Field(default=0.0, ge=0, le=1)
    way: float = Field(default=RateCurve(1.0).seconds_to_plateau, gt=0, allow_inf_nan=False)
    grown: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    held: bool = False
    busy: bool = False
    began: float = 0.0
    until: float = 0.0
    heard: float = 0.0

    @property
    def curve(self) -> RateCurve:
        """Rate of the scope and the state of its growth."""
        return RateCurve(self.rate, self.top, self.drop, self.way, self.grown)


@dataclass(frozen=True, slots=True)
class PublishedReport:
    """Report of one process as stored on the server.

    Attributes:
        id: Id of the process in the scope.
        created_at: Time of the first write, on the server's clock.
        written_at: Time of the last write, on the server's clock.
        report: Content of the report.
    """

    id: str
    created_at: float
    written_at: float
    report: MemberReport


@dataclass(frozen=True, slots=True)
class Pause:
    """Cooldown after a rate limit that the calls of one process met; times are seconds on the server's clock.

    Attributes:
        member: Id of the process in the scope.
        began: Start of the cooldown.
        until: End of the cooldown.
        curve: Rate of the whole scope after the cut.
        episodes: Number of consecutive cooldowns without an answer between them; None if unknown.
    """

    member: str
    began: float
    until: float
    curve: RateCurve
    episodes: int | None = None


def live_reports(records: Iterable[PublishedReport], now: float) -> list[PublishedReport]:
    """Return the reports that are not expired and want a share; `now` is a time on the server's clock."""
    return [record for record in records if record.report.want and record.written_at >= now - ALIVE_SECONDS]


def leader(records: Sequence[PublishedReport]) -> PublishedReport:
    """Return the report of the process that determines the rate for all: the oldest one that makes calls, if any."""
    return min(records, key=lambda record: (not record.report.busy, record.created_at, record.id))


def share_out(wants: Mapping[str, float]) -> dict[str, float]:
    """Return max-min fair shares: no process gets less than another one that gets less than it wants.

    The unwanted remainder is divided evenly, to cover sudden needs, so the shares sum up to 1.
    """
    shares: dict[str, float] = {}
    left = 1.0
    for place, (member, want) in enumerate(sorted(wants.items(), key=lambda each: (each[1], each[0]))):
        shares[member] = min(want, left / (len(wants) - place))
        left -= shares[member]
    return {member: share + max(0.0, left) / len(wants) for member, share in shares.items()}
