"""Tables in databases, named as `sqlite:///docs.db#documents` or `postgresql://host/db#select ...`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
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
class Address:
    """Rows in a database.

    Attributes:
        place: As the job has it.
        kind: What the database is.
        database: Path of its file, or its URL.
        rows: Name of a table, with its schema if need be, or a query.
    """

    place: str
    kind: DatabaseKind
    database: str
    rows: str

    @property
    def is_query(self) -> bool:
        """Whether the rows are those of a query, which nothing can be written to."""
        return QUERY.match(self.rows) is not None

    @property
    def table(self) -> str:
        """The table's name, quoted for SQL."""
        return ".".join(map(name, self.rows.split(".")))

    @property
    def path(self) -> Path:
        """Where the file of the database is."""
        return resolve(self.database)

    def select(self) -> str:
        """Return SQL for the rows, for the database itself."""
        return self.rows.rstrip().rstrip(";") if self.is_query else f"SELECT * FROM {self.table}"


def parse_address(place: str) -> Address | None:
    """Return the rows that a source or an output names; None where it names no database.

    Raises:
        ValueError: It names a database, and no rows in it.
    """
    found = _ADDRESS.fullmatch(place.strip())
    if found is None:
        return None
    scheme, database, rows = found.groups()
    if not rows.strip():
        raise ValueError("it names a database and no table: add #table, or, to read, #select ...")
    if scheme.startswith("postgres"):
        return Address(place, "postgresql", f"{scheme}://{database}", rows.strip())
    if not database.startswith("/") or database == "/":
        raise ValueError(f"write {scheme}:///file for a file here, {scheme}:////folder/file for one anywhere")
    return Address(place, "sqlite" if scheme == "sqlite" else "duckdb", database[1:], rows.strip())


def check_no_passwords(places: Iterable[object]) -> None:
    """See that no address has a password: what is a parameter is stored, and shown to everybody.

    Raises:
        ValueError: One does; it is not shown.
    """
    if any(isinstance(place, str) and _PASSWORD.match(place) for place in places):
        raise ValueError(
            "an address has a password, and parameters are stored and shown: leave it out; for PostgreSQL set "
            "PGPASSWORD in the environment, or save it in Prefect as a Secret block called 'pgpassword'"
        )


def check_query(address: Address) -> None:
    """Check that the query of an address is one SELECT, as far as it can be read here.

    Raises:
        JobError: It is not.
    """
    try:
        check_single_select(address.select())
    except ValueError as error:
        raise JobError(f"the query in source {address.place!r} {error}") from error


def database_error(setting: str, address: Address, error: Exception, done: str) -> JobError:
    """Say in one line what a database has refused."""
    message = " ".join(str(error).split()) or type(error).__name__
    return JobError(f"{setting} {address.place!r} cannot be {done}: {message}")
