"""`batch-llm server`: the local Prefect server by hand."""

from __future__ import annotations

from batch_llm.jobs.provider_addresses import exclude_loopback_from_proxies
from batch_llm.prefect import api
from batch_llm.prefect.deployment import local_server

from .connection import connected
from .interrupts import Interrupts
from .screen import Screen, shell


def start() -> int:
    """Start the local server, and leave it running."""
    screen = Screen()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        if connection.named:
            screen.print(f"PREFECT_API_URL names a server, and it answers: {connection.url}")
            return 0
        print_address(screen, connection.url)
    return 0


def print_address(screen: Screen, url: str) -> None:
    """Say where the local server is and how to go on with it."""
    screen.print(f"Prefect server: {url.removesuffix('/api')}")
    screen.print(f"For the `prefect` command: export PREFECT_API_URL={url}")
    screen.print(f"`{shell('batch-llm server stop')}` ends it.")


def stop() -> int:
    """End the local server."""
    screen = Screen()
    found = local_server.running()
    if found is None:
        screen.print("No local Prefect server of ours is running.")
        return 0
    with screen.phase("Ending the local Prefect server"):
        local_server.stop(found)
    screen.print(f"Ended the Prefect server at {found.url.removesuffix('/api')}")
    return 0


def status() -> int:
    """Say which server commands talk to; 0 if it answers."""
    screen = Screen()
    exclude_loopback_from_proxies()
    if url := api.configured_url():
        api.check_configured(url)
        screen.print(f"PREFECT_API_URL names a server, and it answers: {url}")
        return 0
    found = local_server.running()
    if found is None:
        screen.print(f"No local Prefect server is running; `{shell('batch-llm server start')}` starts one.")
        return 1
    if not local_server.healthy(found.url):
        screen.print(f"The local Prefect server at {found.url} does not answer: it may be starting")
        return 1
    print_address(screen, found.url)
    return 0
