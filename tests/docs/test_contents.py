"""The documents describe every setting and public name, and every link has a target."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from batch_llm import __all__ as public_names
from batch_llm.cli.app import app
from batch_llm.jobs import BatchJob

from .test_documents import BASH_CHAPTERS, DOCUMENTS, commands

CHECKOUT = Path(__file__).parents[2]


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_settings_table_has_every_setting() -> None:
    table = DOCUMENTS["flows/README.md"].split("## Settings")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(BatchJob.model_fields)


def test_engine_page_has_every_public_name() -> None:
    page = DOCUMENTS["batch_llm/README.md"]
    assert [name for name in public_names if not re.search(rf"\b{name}\b", page)] == []


def test_every_module_that_the_engine_page_names_exists() -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", DOCUMENTS["batch_llm/README.md"])
    assert len(named) > 20
    assert [module for module in named if not (CHECKOUT / "batch_llm" / module).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_of_commands_is_tested(document: str) -> None:
    """`sh` blocks are run by test_documents.py; `bash` blocks only occur in chapters with tests of their own."""
    languages = re.findall(r"^```(.*)$", DOCUMENTS[document], flags=re.MULTILINE)[::2]
    assert set(languages) <= {"sh", "bash", "python", "text"}
    chapters = [
        chapter for chapter in re.split(r"^## ", DOCUMENTS[document], flags=re.MULTILINE) if "```bash" in chapter
    ]
    assert [chapter.splitlines()[0] for chapter in chapters] == BASH_CHAPTERS.get(document, [])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_inside_the_repository_has_a_target(document: str) -> None:
    prose = re.sub(r"^```.*?^```", "", DOCUMENTS[document], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        file = (CHECKOUT / document).parent / path if path else CHECKOUT / document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_long_documents_have_a_table_of_contents(document: str) -> None:
    text = DOCUMENTS[document]
    if document != "README.md":
        listed = re.findall(r"^- \[(.+?)\]\(#", text, flags=re.MULTILINE)
        assert listed == re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [line for document in DOCUMENTS for line in commands(document) if "batch-llm " in line and "prefect " not in line],
)
def test_every_command_and_its_options_exist(line: str) -> None:
    """The long tests in test_documents.py run the commands."""
    words = shlex.split(line)
    app.parse_args(words[words.index("batch-llm") + 1 :], print_error=False, exit_on_error=False)


def test_documented_test_command_is_the_one_that_ci_runs() -> None:
    (line,) = [line for line in commands("README.md") if "pytest" in line]
    for file in (".ci/run", ".github/workflows/ci.yml"):
        assert line in (CHECKOUT / file).read_text()
