"""Records and events on the Prefect server that the processes in a scope exchange.

The record of a process is an artifact without a key: no page of the UI lists it, and changing it emits no event, unlike
a Variable. A cooldown is an event, which the server forwards to subscribers within about 10 ms.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, cast

from prefect.client.orchestration import PrefectClient
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import TypeAdapter, ValidationError

from batch_llm.pacing.fair_share import MemberReport, Pause, PublishedReport, curve_attributes, curve_fields

from .stated_limits import slug, variable_name

PAUSED = "batch-llm.limit.paused"
RECORD = "batch-llm.member."
"""Prefix of the artifact type of a record."""

STALE_RECORD_SECONDS = 300.0
"""A record that is this much older than our own is stale and gets removed."""

_VARIABLE = "prefect.variable."
_PAGE = 200
_PAUSE = TypeAdapter(Pause)


@dataclass(frozen=True, slots=True)
class StatedLimits:
    """Limits that a user set for a scope.

    Attributes:
        value: Value of the Variable; None if it does not exist.
    """

    value: object


class MemberRecords:
    """Records of the processes in one scope; a method is usually one request.

    Args:
        client: Client of the Prefect server.
        scope: Name of the scope.
        member: Id of this process in the scope.
    """

    def __init__(self, client: PrefectClient, scope: str, member: str) -> None:
        self._client = client
        self._scope = scope
        self._member = member
        self._type = f"{RECORD}{slug(scope)}"
        self._artifact: str | None = None
        self._report: MemberReport | None = None

    async def write(self, report: MemberReport) -> None:
        """Write the record of this process; create it again if it was removed."""
        self._report = report
        data = {"scope": self._scope, "member": self._member, **report.model_dump()}
        if self._artifact is not None:
            try:
                await self._request("PATCH", self._artifact, {"data": data})
            except PrefectHTTPStatusError as error:
                if error.response.status_code != HTTPStatus.NOT_FOUND:
                    raise
            else:
                return
        made = await self._client.request("POST", "/artifacts/", json={"type": self._type, "data": data})
        self._artifact = made.json()["id"]

    async def read(self) -> list[PublishedReport]:
        """Return all records of the scope, and remove stale ones."""
        found = await read_artifacts(self._client, self._type)
        records = {str(artifact["id"]): record for artifact in found if (record := to_record(artifact))}
        mine = records.get(self._artifact or "")
        for artifact, record in list(records.items()):
            if mine and record.written_at < mine.written_at - STALE_RECORD_SECONDS:
                with suppress(PrefectHTTPStatusError):  # another process may remove it, too
                    await self._request("DELETE", artifact)
                del records[artifact]
        return list(records.values())

    async def leave(self) -> None:
        """Set the claim of this process to zero, and remove its record.

        A server on SQLite may reject the deletion while it writes something else, which is frequent at the end of a
        run. It accepts the update, and other processes remove the stale record later.
        """
        if self._artifact is not None and self._report is not None:
            await self.write(self._report.model_copy(update={"want": 0.0, "claim": 0.0}))
            with suppress(PrefectHTTPStatusError):
                await self._request("DELETE", self._artifact)
            self._artifact = None

    async def publish_pause(self, pause: Pause) -> None:
        """Publish a cooldown to the other processes at once."""
        event = Event(
            event=PAUSED,
            resource=_resource(self._scope),
            payload={
                "scope": self._scope,
                "member": pause.member,
                "seconds": round(pause.until - pause.began, 3),
                "began": pause.began,
                "until": pause.until,
                "curve": curve_fields(pause.curve),
                "episodes": pause.episodes,
            },
        )
        await self._client.request("POST", "/events", json=[event.model_dump(mode="json")])

    async def read_limits(self) -> StatedLimits:
        """Return the limits that are set for the scope now."""
        variable = await self._client.read_variable_by_name(variable_name(self._scope))
        return StatedLimits(variable.value if variable else None)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[AsyncGenerator[Pause | StatedLimits]]:
        """Yield a stream of cooldowns of other processes and of changed limits."""
        names = EventNameFilter(prefix=[PAUSED, _VARIABLE])
        async with get_events_subscriber(filter=EventFilter(event=names)) as events:
            yield self._parsed(events)

    async def _parsed(self, events: AsyncIterable[Event]) -> AsyncGenerator[Pause | StatedLimits]:
        async for event in events:
            if event.event == PAUSED and event.resource.id == _resource(self._scope).id:
                if pause := _to_pause(event):
                    yield pause
            elif event.resource.name == variable_name(self._scope):
                # The event arrives before the API returns the new value.
                yield StatedLimits(None if event.event.endswith("deleted") else event.payload.get("value"))

    async def _request(self, method: Any, artifact: str, body: dict[str, Any] | None = None) -> None:
        await self._client.request(method, "/artifacts/{id}", path_params={"id": artifact}, json=body)


async def read_artifacts(client: PrefectClient, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the artifacts that are records, of one type or of all; few other artifacts are without a key."""
    wanted: dict[str, Any] = {"key": {"exists_": False}} | ({"type": {"any_": [kind]}} if kind else {})
    found: list[dict[str, Any]] = []
    while True:
        body = {"artifacts": wanted, "offset": len(found), "limit": _PAGE}
        page = cast("list[dict[str, Any]]", (await client.request("POST", "/artifacts/filter", json=body)).json())
        found += page
        if len(page) < _PAGE:
            return [artifact for artifact in found if str(artifact["type"]).startswith(RECORD)]


def to_record(artifact: dict[str, Any]) -> PublishedReport | None:
    """Return the record in an artifact; None if it cannot be parsed."""
    try:
        report = MemberReport.model_validate(artifact["data"])
        return PublishedReport(
            artifact["data"]["member"], _moment(artifact["created"]), _moment(artifact["updated"]), report
        )
    except (ValidationError, KeyError, TypeError):
        return None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _resource(scope: str) -> Resource:
    return Resource({"prefect.resource.id": f"batch-llm.limit.{slug(scope)}", "prefect.resource.name": scope})


def _to_pause(event: Event) -> Pause | None:
    try:
        fields = {name: event.payload.get(name) for name in Pause.__dataclass_fields__}
        return _PAUSE.validate_python(fields | {"curve": curve_attributes(event.payload["curve"])})
    except (ValidationError, KeyError, TypeError):
        return None
