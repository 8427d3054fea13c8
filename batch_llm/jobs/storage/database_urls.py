"""URLs of tables and queries in databases: `sqlite:///docs.db#documents`, `postgresql://host/db#select ...`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from batch_llm.errors import JobError

from .duckdb_session import name
from .paths import resolve
from .select_only import check_single_select

DatabaseKind = Literal["sqlite", "duckdb", "postgresql"]
QUERY = re.compile(r"\s*(select|with|from)\s", re.IGNORECASE)
_ADDRESS = re.compile(r"(sqlite|duckdb|postgres(?:ql)?)://([^#]*)#?(.*)", re.DOTALL)
_PASSWORD = re.compile(r"\s*\w[\w+.-]*://([^/?#]*:[^/?#]+@|[^#]*[?&]password=)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Address of a table or a query in a database; it may contain a password, which its text does not show.

    Attributes:
        place: The complete address, as written in the job.
        kind: The database system.
        database: Path of the database file, or the URL of the server.
        rows: Name of a table, optionally with its schema, or a query.
    """

    place: str = field(repr=False)
    kind: DatabaseKind
    database: str = field(repr=False)
    rows: str

    @property
    def is_query(self) -> bool:
        """Whether `rows` is a query, which cannot be written to."""
        return QUERY.match(self.rows) is not None

    @property
    def table(self) -> str:
        """Name of the table, quoted for SQL."""
        return ".".join(map(name, self.rows.split(".")))

    @property
    def path(self) -> Path:
        """Absolute path of the database file."""
        return resolve(self.database)

    def select(self) -> str:
        """Return a SELECT statement for the rows, in the dialect of the database."""
        return self.rows.rstrip().rstrip(";") if self.is_query else f"SELECT * FROM {self.table}"


def parse_database_address(place: str) -> DatabaseAddress | None:
    """Parse the address of a database table or query.

    Args:
        place: A source or an output of a job.

    Returns:
        The address; None if `place` is not a database URL.

    Raises:
        ValueError: The URL names a database, but no table or query in it.
    """
    found = _ADDRESS.fullmatch(place.strip())
    if found is None:
        return None
    scheme, database, rows = found.groups()
    if not rows.strip():
        raise ValueError("the URL names a database but no table: add #table, or #select ... to read a query")
    if scheme.startswith("postgres"):
        return DatabaseAddress(place, "postgresql", f"{scheme}://{database}", rows.strip())
    if not database.startswith("/") or database == "/":
        raise ValueError(f"write {scheme}:///file for a relative path, {scheme}:////folder/file for an absolute path")
    return DatabaseAddress(place, "sqlite" if scheme == "sqlite" else "duckdb", database[1:], rows.strip())


def check_no_passwords(places: Iterable[object]) -> None:
    """Check that no address contains a password: job parameters are stored and shown in the UI.

    Raises:
        ValueError: An address contains a password; the message does not show it.
    """
    if any(isinstance(place, str) and _PASSWORD.match(place) for place in places):
        raise ValueError(
            "an address contains a password, and parameters are stored and shown: remove it; for PostgreSQL, set "
            "PGPASSWORD in the environment, or save a Prefect Secret block named 'pgpassword'"
        )


def check_query(address: DatabaseAddress) -> None:
    """Check that the query of an address is a single SELECT, as far as DuckDB can parse its dialect.

    Raises:
        JobError: The query is not a single SELECT.
    """
    try:
        check_single_select(address.select())
    except ValueError as error:
        raise JobError(f"the query in source {address.place!r} {error}") from error


def database_error(setting: str, address: DatabaseAddress, error: Exception, done: str) -> JobError:
    """Return an error that reports in one line what the database rejected.

    Args:
        setting: Name of the job's setting: `source` or `output`.
        address: The address that the setting names.
        error: The exception of the database's client.
        done: What failed, as a participle: "read", "written".
    """
    message = " ".join(str(error).split()) or type(error).__name__
    return JobError(f"{setting} {address.place!r} cannot be {done}: {message}")
