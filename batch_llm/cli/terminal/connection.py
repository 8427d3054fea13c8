"""The Prefect server that a command uses: found or started, and stopped again when the command is interrupted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies
from batch_llm.prefect.deployment import local_server
from batch_llm.prefect.deployment.local_server import LocalServer

from .interrupts import Interrupts
from .screen import Screen


class PrefectSettings(Protocol):
    """Prefect's settings of this process, or of the process that will run the flow."""

    @property
    def url(self) -> str | None:
        """Address of the configured API; None if there is none."""
        ...

    @property
    def home(self) -> Path:
        """Prefect's home folder."""
        ...

    def check(self, url: str) -> None:
        """Check that the configured API answers."""
        ...

    def use(self, url: str) -> None:
        """Use this API from now on."""
        ...

    def restore(self) -> None:
        """Use the API that was used before."""
        ...


class OwnSettings:
    """Prefect's settings of this process."""

    def __init__(self) -> None:
        from batch_llm.prefect import api

        self.url, self.home = api.configured_url(), local_server.prefect_home()
        self._used = ExitStack()

    def check(self, url: str) -> None:
        """Check that the API answers; see `api.check_configured`."""
        from batch_llm.prefect import api

        api.check_configured(url)

    def use(self, url: str) -> None:
        """Use this API until `restore` is called."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        self._used.enter_context(temporary_settings({PREFECT_API_URL: url}))

    def restore(self) -> None:
        """Restore the previous settings."""
        self._used.close()


class Connection:
    """Connection of a command to a Prefect server.

    Attributes:
        url: Address of the server's API.
        local: The server, if a batch-llm command started it.
        started: Whether this command started it.
        named: Whether PREFECT_API_URL or the profile names the server.
    """

    def __init__(
        self, interrupts: Interrupts, screen: Screen, prefect: PrefectSettings, port: int | None = None
    ) -> None:
        self.url = ""
        self.local: LocalServer | None = None
        self.started = False
        self.named = False
        self._interrupts = interrupts
        self._screen = screen
        self._prefect = prefect
        self._port = port

    def open(self) -> None:
        """Find a server, or start one without waiting for its answer.

        Raises:
            ServerUnavailable: The configured server does not answer.
        """
        if url := self._prefect.url:
            with self._screen.phase(f"Looking for the Prefect server at {url}"):
                self._prefect.check(url)
            self.named = True
            self._use(url)
            return
        while not (found := local_server.running(self._prefect.home)):
            with self._interrupts.held():
                found = self.local = local_server.launch(self._port, self._prefect.home)
                self.started = found is not None
            if found:
                break
            time.sleep(0.2)  # another command is starting one
        self.local = found
        self._use(found.url)

    def wait(self) -> None:
        """Wait until the server answers."""
        if self.local and not local_server.healthy(self.local.url):
            with self._screen.phase("Starting a local Prefect server"):
                local_server.wait_until_healthy(self.local)

    def end(self) -> None:
        """Stop the server if this command started it."""
        local = self.local
        if self.started and local:
            self._interrupts.end(lambda: local_server.stop(local), lambda: local_server.stop(local, patience=0))
        self.started = False

    def close(self) -> None:
        """Restore the previous Prefect settings."""
        self._prefect.restore()

    def _use(self, url: str) -> None:
        self.url = url
        with self._interrupts.held():  # pydantic would turn an interrupt into an error of its own
            self._prefect.use(url)
        os.environ["PREFECT_API_URL"] = url  # for the processes that we start


@contextmanager
def connected(
    interrupts: Interrupts, screen: Screen, prefect: PrefectSettings | None = None, *, port: int | None = None
) -> Generator[Connection]:
    """Yield a connection to a server that may still be starting; stop a server that this command started on errors.

    Args:
        interrupts: The signals of the command.
        screen: The output of the command.
        prefect: Prefect's settings; None for those of this process.
        port: Port of a server that is started; None for the first free one.
    """
    logging.getLogger("prefect").setLevel(logging.CRITICAL)
    exclude_loopback_from_proxies()  # for Prefect's client, and for the processes that we start
    connection = Connection(interrupts, screen, prefect or OwnSettings(), port)
    try:
        connection.open()
        yield connection
    except BaseException:
        connection.end()
        raise
    finally:
        connection.close()
