"""`batch-llm server`: the local Prefect server by hand."""

from __future__ import annotations

from batch_llm.jobs.provider_addresses import keep_loopback_from_proxies
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
            screen.say(f"PREFECT_API_URL names a server, and it answers: {connection.url}")
            return 0
        tell(screen, connection.url)
    return 0


def tell(screen: Screen, url: str) -> None:
    """Say where the local server is and how to go on with it."""
    screen.say(f"Prefect server: {url.removesuffix('/api')}")
    screen.say(f"For the `prefect` command: export PREFECT_API_URL={url}")
    screen.say(f"`{shell('batch-llm server stop')}` ends it.")


def stop() -> int:
    """End the local server."""
    screen = Screen()
    found = local_server.running()
    if found is None:
        screen.say("No local Prefect server of ours is running.")
        return 0
    with screen.phase("Ending the local Prefect server"):
        local_server.stop(found)
    screen.say(f"Ended the Prefect server at {found.url.removesuffix('/api')}")
    return 0


def status() -> int:
    """Say which server commands talk to; 0 if it answers."""
    screen = Screen()
    keep_loopback_from_proxies()
    if url := api.configured_url():
        api.check_configured(url)
        screen.say(f"PREFECT_API_URL names a server, and it answers: {url}")
        return 0
    found = local_server.running()
    if found is None:
        screen.say(f"No local Prefect server is running; `{shell('batch-llm server start')}` starts one.")
        return 1
    if not local_server.healthy(found.url):
        screen.say(f"The local Prefect server at {found.url} does not answer: it may be starting")
        return 1
    tell(screen, found.url)
    return 0
