"""An unusable Prefect server and settings that it rejects are reported in one line each, without a traceback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from batch_llm.cli.overrides import MOST_BYTES, check_length
from batch_llm.config import Limits
from batch_llm.errors import JobError
from batch_llm.prefect.api import ServerUnavailable, api, one_line
from batch_llm.prefect.deployment.local_server import healthy
from batch_llm.prefect.rate_limits.stated_limits import all_stated, clear, save
from batch_llm.prefect.server_errors import MOST_LETTERS
from tests.support.command import batch_llm_here
from tests.support.loopback import LoopbackServer, Reply


@contextmanager
def answering(reply: Reply) -> Generator[str]:
    """Run a server whose health check succeeds and that gives the same reply to every other request."""
    with LoopbackServer(rule=lambda call: Reply() if call.path == "/api/health" else reply) as server:
        yield f"{server.url}/api"


LOGIN = Reply(200, "<html><body>Please log in to the network</body></html>")


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (LOGIN, "is not a Prefect server: it did not answer with JSON but, for example, with a proxy's login page"),
        (
            Reply(401, {"exception_message": "Unauthorized"}),
            "the Prefect server returned an error: Unauthorized: PREFECT_API_AUTH_",
        ),
    ],
)
@pytest.mark.parametrize(
    "ask",
    [all_stated, lambda: save("m", Limits(requests_per_minute=5)), lambda: clear("m")],
    ids=["show", "set", "clear"],
)
def test_an_error_of_the_server_is_one_line(ask: Callable[[], object], reply: Reply, line: str) -> None:
    with (
        answering(reply) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerUnavailable) as caught,
    ):
        ask()
    assert line in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_login_page_is_not_accepted_as_an_answer() -> None:
    with (
        answering(LOGIN) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerUnavailable, match="is not a Prefect server"),
        api() as client,
    ):
        client.read_work_pool("any")


def test_the_local_server_is_not_requested_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with answering(Reply(200, {})) as url:
        assert healthy(url)


def test_an_error_does_not_repeat_what_was_sent() -> None:
    """When Prefect rejects the parameters of a run, its answer repeats all of them and their schema."""
    limit = "Flow run parameters must be less than 524,288 bytes when serialized (got 705,123 bytes)."
    long = f"Error while applying deployment: 422 {{'detail': [{{'msg': 'Value error, {limit}', 'input': '{'x' * 10**6}"
    assert limit in one_line(long)
    assert len(one_line(long)) < 2 * MOST_LETTERS
    assert len(one_line("x" * 10**6)) < 2 * MOST_LETTERS
    assert one_line("  two\n lines ") == "two lines"


@pytest.mark.parametrize("name", ["instructions", "prompt", "cached_context", "output_schema", "model_settings"])
def test_parameters_that_are_too_long_are_reported_first(name: str) -> None:
    text = "Rule: be kind. " * 47_000
    value = {"description": text} if name in ("output_schema", "model_settings") else text
    with pytest.raises(JobError) as caught:
        check_length({"source": "docs.jsonl", name: value})
    assert f"and Prefect accepts at most 524,288: {name} is " in str(caught.value)
    assert len(str(caught.value)) < 400


def test_non_ascii_characters_are_counted_as_prefect_counts_them() -> None:
    check_length({"prompt": "x" * (MOST_BYTES - 100)})
    with pytest.raises(JobError, match="prompt is"):
        check_length({"prompt": "ü" * (MOST_BYTES // 6)})


@pytest.mark.sample(1)
@pytest.mark.parametrize("command", ["show", "estimate"])
def test_show_and_estimate_report_parameters_that_are_too_long(tmp_path: Path, command: str) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "b"}\n')
    preset = f"deployments:\n  - name: handbook\n    parameters: {{prompt: '{'Be kind. ' * 70_000}'}}\n"
    (tmp_path / "batch-llm.yaml").write_text(preset)
    done = batch_llm_here(command, "handbook", folder=tmp_path)
    assert done.returncode == 2
    assert "Prefect accepts at most 524,288: prompt is" in done.stderr
    assert len(done.stderr) < 1000
