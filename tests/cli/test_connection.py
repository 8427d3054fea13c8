"""A Prefect server that cannot be used, and settings that it would not take: one line each, and no traceback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from batch_llm.cli.overrides import MOST_BYTES, check_length
from batch_llm.config import Limits
from batch_llm.errors import JobError
from batch_llm.prefect.api import MOST_LETTERS, ServerUnavailable, api, one_line
from batch_llm.prefect.deployment.local_server import healthy
from batch_llm.prefect.rate_limits.stated_limits import all_stated, clear, state
from tests.support.command import batch_llm
from tests.support.loopback import LoopbackServer, Reply


@contextmanager
def answering(reply: Reply) -> Generator[str]:
    """A server that is healthy, as Prefect's is without a password, and answers all else in the same way."""
    with LoopbackServer(rule=lambda call: Reply() if call.path == "/api/health" else reply) as server:
        yield f"{server.url}/api"


LOGIN = Reply(200, "<html><body>Please log in to the network</body></html>")


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (LOGIN, "is not a Prefect server: it sent something else than its JSON, such as a proxy's login page"),
        (
            Reply(401, {"exception_message": "Unauthorized"}),
            "the Prefect server refuses: Unauthorized: PREFECT_API_AUTH_",
        ),
    ],
)
@pytest.mark.parametrize(
    "ask",
    [all_stated, lambda: state("m", Limits(requests_per_minute=5)), lambda: clear("m")],
    ids=["show", "set", "clear"],
)
def test_what_a_server_refuses_is_one_line(ask: Callable[[], object], reply: Reply, line: str) -> None:
    with (
        answering(reply) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerUnavailable) as caught,
    ):
        ask()
    assert line in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_login_page_is_not_taken_for_an_answer() -> None:
    with (
        answering(LOGIN) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerUnavailable, match="is not a Prefect server"),
        api() as client,
    ):
        client.read_work_pool("any")


def test_our_own_server_is_not_looked_for_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with answering(Reply(200, {})) as url:
        assert healthy(url)


def test_an_error_does_not_repeat_what_was_sent() -> None:
    """Prefect's answer to a run with parameters that it does not take has them all in it, and their schema."""
    limit = "Flow run parameters must be less than 524,288 bytes when serialized (got 705,123 bytes)."
    long = f"Error while applying deployment: 422 {{'detail': [{{'msg': 'Value error, {limit}', 'input': '{'x' * 10**6}"
    assert limit in one_line(long)
    assert len(one_line(long)) < 2 * MOST_LETTERS
    assert len(one_line("x" * 10**6)) < 2 * MOST_LETTERS
    assert one_line("  two\n lines ") == "two lines"


@pytest.mark.parametrize("name", ["instructions", "prompt", "cached_context", "output_schema", "model_settings"])
def test_settings_that_prefect_does_not_take_are_told_before_anything_else(name: str) -> None:
    text = "Rule: be kind. " * 47_000
    value = {"description": text} if name in ("output_schema", "model_settings") else text
    with pytest.raises(JobError) as caught:
        check_length({"source": "docs.jsonl", name: value})
    assert f"and Prefect takes no run with more than 524,288: {name} is " in str(caught.value)
    assert len(str(caught.value)) < 400


def test_letters_beyond_ascii_count_as_prefect_counts_them() -> None:
    check_length({"prompt": "x" * (MOST_BYTES - 100)})
    with pytest.raises(JobError, match="prompt is"):
        check_length({"prompt": "ü" * (MOST_BYTES // 6)})


@pytest.mark.parametrize("command", ["show", "estimate"])
def test_commands_that_only_look_say_it_too(tmp_path: Path, command: str) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "b"}\n')
    preset = f"deployments:\n  - name: handbook\n    parameters: {{prompt: '{'Be kind. ' * 70_000}'}}\n"
    (tmp_path / "batch-llm.yaml").write_text(preset)
    done = batch_llm(command, "handbook", folder=tmp_path)
    assert done.returncode == 2
    assert "Prefect takes no run with more than 524,288: prompt is" in done.stderr
    assert len(done.stderr) < 1000
