"""Actions of `batch-llm server`: start, stop and check the local Prefect server."""

from __future__ import annotations

from urllib.parse import urlsplit

from batch_llm.cli.terminal.connection import connected
from batch_llm.cli.terminal.interrupts import Interrupts
from batch_llm.cli.terminal.screen import Screen, shell
from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies
from batch_llm.prefect import api
from batch_llm.prefect.api import ServerUnavailable
from batch_llm.prefect.deployment import local_server


def start(port: int | None) -> int:
    """Start the local server and leave it running.

    Args:
        port: Port of the server; None for the first free one.

    Raises:
        ServerUnavailable: The port is not valid or in use, or another server is configured or running.
    """
    screen = Screen()
    if port is not None:
        _check_port(port)
    with Interrupts.caught() as interrupts, connected(interrupts, screen, port=port) as connection:
        connection.wait()
        if connection.named:
            screen.print(f"PREFECT_API_URL names a server, and it answers: {connection.url}")
            return 0
        print_address(screen, connection.url)
    return 0


def _check_port(port: int) -> None:
    if port not in range(1, 65536):
        raise ServerUnavailable(f"--port is {port}: it must be from 1 to 65535")
    if url := api.configured_url():
        raise ServerUnavailable(f"PREFECT_API_URL names the server {url}: unset it to start a local server")
    found = local_server.running()
    if found and urlsplit(found.url).port != port:
        raise ServerUnavailable(
            f"the local Prefect server already runs at {found.url}: stop it with {shell('batch-llm server stop')} first"
        )


def print_address(screen: Screen, url: str) -> None:
    """Print the address of the local server and how to use and stop it."""
    screen.print(f"Prefect server: {url.removesuffix('/api')}")
    screen.print(f"For the `prefect` command: export PREFECT_API_URL={url}")
    screen.print(f"To stop it: {shell('batch-llm server stop')}")


def stop() -> int:
    """Stop the local server."""
    screen = Screen()
    found = local_server.running()
    if found is None:
        screen.print("No local Prefect server is running.")
        return 0
    with screen.phase("Stopping the local Prefect server"):
        local_server.stop(found)
    screen.print(f"Stopped the Prefect server at {found.url.removesuffix('/api')}")
    return 0


def status() -> int:
    """Print which server the commands use; return 0 if it answers."""
    screen = Screen()
    exclude_loopback_from_proxies()
    if url := api.configured_url():
        api.check_configured(url)
        screen.print(f"PREFECT_API_URL names a server, and it answers: {url}")
        return 0
    found = local_server.running()
    if found is None:
        screen.print(f"No local Prefect server is running. Start one with: {shell('batch-llm server start')}")
        return 1
    if not local_server.healthy(found.url):
        screen.print(f"The local Prefect server at {found.url} does not answer: it may be starting")
        return 1
    print_address(screen, found.url)
    return 0
