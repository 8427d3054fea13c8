"""What the members of a scope tell each other, and how a limit is shared out from that: pure functions.

A member is a process that makes calls under a scope's limit. Each writes one record, of its own, and reads all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from .governor import RateCurve

ALIVE_SECONDS = 15.0
"""A member whose record is so much older than ours is dead: it would have written twice."""


_CURVE_FIELDS = {
    "rate": "rate",
    "plateau": "top",
    "drop_ratio": "drop",
    "seconds_to_plateau": "way",
    "seconds_since_cut": "grown",
}
"""Attributes of a `RateCurve`, and their names in records and events, which other versions read as well."""


def curve_fields(curve: RateCurve) -> dict[str, float | None]:
    """Return a curve under the field names of records and events."""
    return {field: getattr(curve, attribute) for attribute, field in _CURVE_FIELDS.items()}


def curve_attributes(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a curve in a record or an event under the names of its attributes."""
    return {attribute: fields[field] for attribute, field in _CURVE_FIELDS.items() if field in fields}


class MemberReport(BaseModel, frozen=True):
    """What a member writes; moments are seconds by the server's clock, the only one that all of them see.

    Attributes:
        want: How much of the limit it could use, 0 to 1; 1 for as much as it can get. Who wants nothing has left.
        claim: How much of it it has or is about to take.
        rate, top, drop, way, grown: The rate that its governor has found for the whole scope, and how it grows.
        held: Whether its calls had to wait for the rate lately.
        busy: Whether it made calls lately.
        began: When the latest pause of its own began.
        until: When that one ends.
        heard: When the latest pause began that its rate accounts for, its own or another member's.
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
        """The rate and how it grows."""
        return RateCurve(self.rate, self.top, self.drop, self.way, self.grown)


@dataclass(frozen=True, slots=True)
class PublishedReport:
    """What stands on the board for one member.

    Attributes:
        id: The member's.
        born: When it was first written, by the server's clock.
        written: When it was written last, by the server's clock.
        said: What it says.
    """

    id: str
    created_at: float
    written_at: float
    report: MemberReport


@dataclass(frozen=True, slots=True)
class Pause:
    """A rate limit that a member's calls met; moments are seconds by the server's clock.

    Attributes:
        curve: What the member takes the whole scope to be allowed since.
        episodes: How many there were in a row, without an answer between them; None where that is not known.
    """

    member: str
    began: float
    until: float
    curve: RateCurve
    episodes: int | None = None


def live_reports(records: Iterable[PublishedReport], now: float) -> list[PublishedReport]:
    """Return the records of those who live and want something, `now` by the server's clock."""
    return [record for record in records if record.report.want and record.written_at >= now - ALIVE_SECONDS]


def leader(records: Sequence[PublishedReport]) -> PublishedReport:
    """Return who finds the rate for all: of those who make calls, if any do, the one that was first."""
    return min(records, key=lambda record: (not record.report.busy, record.created_at, record.id))


def share_out(wants: Mapping[str, float]) -> dict[str, float]:
    """Share out a whole, max-min fair: nobody gets less than another who gets less than it wants.

    What nobody wants is shared out evenly on top, for the next moment's needs; so the shares sum up to 1.
    """
    shares: dict[str, float] = {}
    left = 1.0
    for place, (member, want) in enumerate(sorted(wants.items(), key=lambda each: (each[1], each[0]))):
        shares[member] = min(want, left / (len(wants) - place))
        left -= shares[member]
    return {member: share + max(0.0, left) / len(wants) for member, share in shares.items()}
