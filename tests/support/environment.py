"""The environment of every test and of every process that a test starts; pytest loads this as a plugin.

A test must not depend on the shell that started pytest. Variables that are not in `KEPT` are removed, signals that the
shell ignores (`nohup`, `&` in a script) get a handler, and the home directory is an empty one that is deleted at the
end. What the product itself must support is left as it is: `TMPDIR`, `TZ`, the locale, the umask, the user, the limit
of open files, the path of the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import certifi
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

KEPT = re.compile(
    r"PATH|TMPDIR|TEMP|TMP|TZ|LANG|LANGUAGE|LC_\w+|USER|LOGNAME|SHELL|CI|VIRTUAL_ENV|PYTHONPATH|LD_LIBRARY_PATH|LD_PRELOAD|FAKETIME\w*"
    r"|PYTEST_\w+|COVERAGE_\w+|BATCH_LLM_SCREENSHOTS"
)
"""Variables that tests and their processes see; all others belong to the shell or to the user's own work."""

IGNORABLE = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@pytest.hookimpl(trylast=True)  # pytest's own output has the user's colors and width
def pytest_configure(config: pytest.Config) -> None:
    """Define the environment, before anything imports Prefect and before xdist starts its workers."""
    handle_ignored_signals()
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        define_variables(_make_home(config))
    set_hypothesis_home_dir(_hypothesis_folder(config))


def define_variables(home: Path) -> None:
    """Remove what is not in `KEPT` from this process's variables; set the home directory and the certificates."""
    for name in [name for name in os.environ if not KEPT.fullmatch(name)]:
        del os.environ[name]
    os.environ.update(
        HOME=str(home),
        PREFECT_HOME=str(home / ".prefect"),
        SSL_CERT_FILE=str(_write_certificate(home)),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
    )


def _write_certificate(home: Path) -> Path:
    """Write the file of trusted certificates, and return its path.

    It has one: a client of a provider reads the file when it is made, which takes 15 ms of CPU with all of a system's
    certificates. No test connects to a server outside this machine.
    """
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
    path = home / "trusted.pem"
    path.write_text(f"{first}{end}\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def variables_are_restored() -> Generator[None]:
    """Undo changes of variables by the code under test, which sets some for the processes that it starts."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _hypothesis_folder(config: pytest.Config) -> str:
    """Return where failing examples are kept: in pytest's cache, or, where that cannot be written, in the home."""
    try:
        cache: pytest.Cache | None = getattr(config, "cache", None)
        if cache is not None:
            return str(cache.mkdir("hypothesis"))
    except OSError:
        pass
    return str(Path(os.environ["HOME"]) / ".hypothesis")


def _make_home(config: pytest.Config) -> Path:
    home = Path(tempfile.mkdtemp(prefix="batch-llm-home-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    return home


def handle_ignored_signals() -> None:
    """Replace "ignore" by a handler that does nothing.

    pytest goes on as before, and a process that it starts has the default action: a handler is not inherited, "ignore"
    is (see execve(2)). A blocked signal would be inherited, too.
    """
    for number in IGNORABLE:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it hides exit codes
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _do_nothing(number: int, frame: FrameType | None) -> None:
    del number, frame
