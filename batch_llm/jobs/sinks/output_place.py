"""The place of an output, and the places next to it: of rows that failed, and of rows of a run that is not complete."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batch_llm.jobs.secrets import redact
from batch_llm.jobs.storage.database_urls import DatabaseAddress, parse_database_address
from batch_llm.jobs.storage.formats import split_ending

_LONGEST_TABLE = 46
"""With `_partial_failures` appended, a table's name is one that PostgreSQL does not cut."""
_LONGEST_NAME = 255
_LONGEST_ADDED = len(".partial.failures")


@dataclass(frozen=True, slots=True, repr=False)
class OutputPlace:
    """Parsed place of an output: a file, a folder of files, or a table in a database.

    Attributes:
        place: The path, the URL, or the address of the table, as written in the job.
        table: The address of the table; None for files.
        ending: Extension of the file's format; empty for a table.
        packing: Extension of the file's compression; empty if it is not compressed.
        partition_by: Columns that partition the output into a folder of files.
        like: A file whose mode and owner a new file gets, if it exists; empty for none.

    Example:
        >>> output = OutputPlace.parse("out.csv.gz")
        >>> output.ending, output.partial.place, output.failures.place
        ('.csv', 'out.partial.csv.gz', 'out.failures.csv.gz')
    """

    place: str
    table: DatabaseAddress | None = None
    ending: str = ""
    packing: str = ""
    partition_by: tuple[str, ...] = ()
    like: str = ""

    @classmethod
    def parse(cls, place: str, partition_by: Sequence[str] = ()) -> OutputPlace:
        """Return the place of an output that a job names.

        Args:
            place: A file, a URL, or a table in a database.
            partition_by: Columns that partition the output into a folder of files.

        Raises:
            ValueError: The place names a database, but no table in it.
        """
        if table := parse_database_address(place):
            return cls(place, table, partition_by=tuple(partition_by))
        return cls(place, None, *split_ending(place), tuple(partition_by))

    def __repr__(self) -> str:
        return f"OutputPlace({redact(self.place)!r})"

    @property
    def failures(self) -> OutputPlace:
        """Where failed rows are written, in one file: for out.jsonl in out.failures.jsonl, for t in t_failures."""
        if self.table is not None:
            return self._beside(f"{self.place}_failures", ())
        stem, extensions = self._split()
        return self._beside(f"{stem}.failures{extensions}", ())

    @property
    def partial(self) -> OutputPlace:
        """Where rows that must not replace the output are written: in out.partial.jsonl, or in the table t_partial."""
        if self.table is not None:
            database, _, rows = self.place.rpartition("#")
            schema, dot, table = rows.rpartition(".")
            named = _shortened(table, _LONGEST_TABLE, "_")
            return self._beside(f"{database}#{schema}{dot}{named}_partial", self.partition_by)
        path, extensions = self._split()
        folder, slash, stem = path.rpartition("/")
        longest = _LONGEST_NAME - _LONGEST_ADDED - len(extensions)
        named = _shortened(stem, longest, "-")
        return self._beside(f"{folder}{slash}{named}.partial{extensions}", self.partition_by)

    @property
    def is_typed(self) -> bool:
        """Whether a column may contain values of several types, as in JSON Lines."""
        return self.ending == ".jsonl"

    @property
    def is_csv(self) -> bool:
        """Whether the rows are written as CSV, which a spreadsheet may open."""
        return self.ending == ".csv"

    def _split(self) -> tuple[str, str]:
        length = len(self.ending) + len(self.packing)
        return self.place[:-length], self.place[-length:]

    def _beside(self, place: str, partition_by: tuple[str, ...]) -> OutputPlace:
        table = parse_database_address(place) if self.table is not None else None
        return replace(self, place=place, table=table, partition_by=partition_by, like=self.place)


def _shortened(name: str, longest: int, before_hash: str) -> str:
    """Return a name, or where it is too long its beginning and a hash, which no other name has."""
    if len(name.encode()) <= longest:
        return name
    start = name.encode()[:32].decode(errors="ignore")
    return f"{start}{before_hash}{hashlib.sha256(name.encode()).hexdigest()[:8]}"
