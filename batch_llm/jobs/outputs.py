"""What can be an output."""

from __future__ import annotations

from .databases import find_address
from .endings import OUTPUT_ENDINGS, split_ending


def check_output(place: str) -> None:
    """See that a name is one of a file that we write, or of a table in a database.

    Raises:
        ValueError: It is neither.
    """
    if address := find_address(place):
        if address.is_query:
            raise ValueError("nothing can be written to a query: name a table")
    elif "".join(split_ending(place)) not in OUTPUT_ENDINGS:
        raise ValueError(f"its ending must be one of {', '.join(OUTPUT_ENDINGS)}")
