"""What can be an output."""

from __future__ import annotations

from .databases import find_address
from .endings import OUTPUT_ENDINGS, split_ending

_LONGEST_TABLE = 62
"""PostgreSQL cuts names to 63 bytes, and the table of failures needs another one."""


def check_output(place: str) -> None:
    """See that a name is one of a file that we write, or of a table in a database.

    Raises:
        ValueError: It is neither.
    """
    if address := find_address(place):
        if address.is_query:
            raise ValueError("nothing can be written to a query: name a table")
        if address.kind == "postgresql" and len(address.rows.rpartition(".")[2].encode()) > _LONGEST_TABLE:
            raise ValueError(f"its table's name is longer than {_LONGEST_TABLE} bytes, and PostgreSQL would cut it")
    elif "".join(split_ending(place)) not in OUTPUT_ENDINGS:
        raise ValueError(f"its ending must be one of {', '.join(OUTPUT_ENDINGS)}")
