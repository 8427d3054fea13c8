"""Settings that name a file with `@`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.file_references import with_files_read
from tests.support.jobs import job

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}


def test_prompt_instructions_and_schema_are_read_from_files(home: Path) -> None:
    """Paths are relative to the working folder; a byte order mark and the last line break are not sent."""
    (home / "texts").mkdir()
    (home / "texts" / "prompt.txt").write_bytes(b"\xef\xbb\xbfTitle of:\n{text}\r\n")
    (home / "rules.md").write_text("Be brief.\n")
    (home / "schema.json").write_text(json.dumps(SCHEMA))
    (home / "schema.yaml").write_text("type: object\nproperties:\n  title: {type: string}\n")
    for schema in ("@schema.json", "@schema.yaml", f"@{home}/schema.json"):
        made = job(prompt="@texts/prompt.txt", instructions="@rules.md", output_schema=schema)
        assert (made.prompt, made.instructions, made.output_schema) == ("Title of:\n{text}", "Be brief.", SCHEMA)
        assert BatchJob.parse(made.model_dump()) == made


@pytest.mark.parametrize(
    "text", ["@{handle} wrote: {text}", "@all\n{text}", " @all {text}", "@ home: {text}", "a@b {text}"]
)
def test_other_texts_with_an_at_sign_are_sent_as_they_are(text: str) -> None:
    assert job(prompt=text).prompt == text


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"prompt": "@none.txt"},
            "prompt: cannot read the file .*/none.txt: No such file or directory. To send a text",
        ),
        ({"instructions": "@latin.txt"}, "instructions: cannot read the file .*/latin.txt: it is not UTF-8 text"),
        ({"output_schema": "@broken.json"}, "output_schema: .*/broken.json is not a valid JSON Schema"),
        ({"output_schema": "@list.json"}, "output_schema"),
        ({"prompt": "@again.txt"}, "the text in .*/again.txt is itself the name of a file, '@prompt.txt'"),
        ({"prompt": "@."}, "prompt: cannot read the file .*: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(home: Path, settings: dict[str, str], line: str) -> None:
    (home / "latin.txt").write_bytes(b"caf\xe9")
    (home / "broken.json").write_text('{"type": ')
    (home / "list.json").write_text("[1]")
    (home / "again.txt").write_text("@prompt.txt")
    with pytest.raises(JobError, match=line) as caught:
        job(**settings)
    assert "\n" not in " ".join(str(caught.value).split())


def test_paths_may_be_relative_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("{text}!")
    values = {"prompt": "@prompt.txt", "source": "docs.csv"}
    assert with_files_read(values, tmp_path) == {"prompt": "{text}!", "source": "docs.csv"}
    assert values["prompt"] == "@prompt.txt", "the given values stay as they are"
