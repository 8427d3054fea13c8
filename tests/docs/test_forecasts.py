"""The table of forecasts in flows/README.md equals the command's output."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from batch_llm.jobs import project_folder
from tests.support.command import batch_llm

README = (project_folder() / "flows" / "README.md").read_text()
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def cells(table: str) -> list[list[str]]:
    """Return the cells of all rows that are not empty."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip()]
    return [row for row in rows if len(row) > 2]


@pytest.mark.whole
def test_table_of_forecasts_equals_the_output_of_the_command(tmp_path: Path) -> None:
    """The second digit of a number may differ by one, because of rounding."""
    command, rest = re.search(r"```text\n\$ (batch-llm simulate (?:.*\\\n)*.*)\n([^`]*)```", README).groups()  # pyright: ignore[reportOptionalMemberAccess]  there is one
    done = batch_llm(*shlex.split(command.replace("\\\n", " "))[1:], folder=tmp_path, COLUMNS="160")
    assert done.returncode == 0, done.stderr
    shown, expected = cells(rest), cells(done.stdout)
    assert len(shown) == 13
    for mine, theirs in zip(shown, expected, strict=True):
        assert [NUMBER.sub("", cell) for cell in mine] == [NUMBER.sub("", cell) for cell in theirs]
        numbers = [[float(each.replace(",", "")) for each in NUMBER.findall(" ".join(row))] for row in (mine, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.1), mine
