"""Completion of commands and options, in the shells that are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from batch_llm.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_has_commands_and_options(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("batch-llm", "results", "only-failed", "limit"))
    if program := shutil.which(shell):
        subprocess.run([program, "-n", "/dev/stdin"], input=script, text=True, check=True, timeout=20)


@pytest.mark.shell
def test_bash_completes_a_command_and_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert completions(script, "batch-llm", "pre") == ["presets"]
    assert "--only-failed" in completions(script, "batch-llm", "run", "summarize", "--only")


@pytest.mark.shell
def test_install_writes_the_script_where_the_shell_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["completion", "bash", "--install"]) == 0
    file = tmp_path / ".local/share/bash-completion/completions/batch-llm"
    assert str(file) in capsys.readouterr().out
    assert "only-failed" in file.read_text()


def completions(script: str, *words: str) -> list[str]:
    """Return bash's completions of the last word."""
    ask = f"""{script}
COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
"$(complete -p batch-llm | sed 's/.*-F \\([^ ]*\\).*/\\1/')" batch-llm
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, timeout=20)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
