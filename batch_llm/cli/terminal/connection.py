"""The Prefect server that a command uses: found or started, and stopped again when the command is interrupted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from prefect.settings import PREFECT_API_URL, temporary_settings

from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies
from batch_llm.prefect import api
from batch_llm.prefect.deployment import local_server
from batch_llm.prefect.deployment.local_server import LocalServer

from .interrupts import Interrupts
from .screen import Screen


class Connection:
    """Connection of a command to a Prefect server.

    Attributes:
        url: Address of the server's API.
        local: The server, if a batch-llm command started it.
        started: Whether this command started it.
        named: Whether PREFECT_API_URL or the profile names the server.
    """

    def __init__(self, interrupts: Interrupts, screen: Screen, port: int | None = None) -> None:
        self.url = ""
        self.local: LocalServer | None = None
        self.started = False
        self.named = False
        self._interrupts = interrupts
        self._screen = screen
        self._port = port
        self._settings = ExitStack()

    def open(self) -> None:
        """Find a server, or start one without waiting for its answer.

        Raises:
            ServerUnavailable: The configured server does not answer.
        """
        if url := api.configured_url():
            with self._screen.phase(f"Looking for the Prefect server at {url}"):
                api.check_configured(url)
            self.named = True
            self._use(url)
            return
        while not (found := local_server.running()):
            with self._interrupts.held():
                found = self.local = local_server.launch(self._port)
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
        self._settings.close()

    def _use(self, url: str) -> None:
        self.url = url
        with self._interrupts.held():  # pydantic would turn an interrupt into an error of its own
            self._settings.enter_context(temporary_settings({PREFECT_API_URL: url}))
        os.environ["PREFECT_API_URL"] = url  # for the processes that we start


@contextmanager
def connected(interrupts: Interrupts, screen: Screen, port: int | None = None) -> Generator[Connection]:
    """Yield a connection to a server that may still be starting; stop a server that this command started on errors.

    Args:
        interrupts: The signals of the command.
        screen: The output of the command.
        port: Port of a server that is started; None for the first free one.
    """
    logging.getLogger("prefect").setLevel(logging.CRITICAL)
    exclude_loopback_from_proxies()  # for Prefect's client, and for the processes that we start
    connection = Connection(interrupts, screen, port)
    try:
        connection.open()
        yield connection
    except BaseException:
        connection.end()
        raise
    finally:
        connection.close()
