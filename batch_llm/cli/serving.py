"""`batch-llm serve`: one process that serves all presets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from batch_llm.jobs import home
from batch_llm.prefect import deployments
from batch_llm.prefect.serving import serve_until_signal

from .connection import connected
from .interrupts import Interrupts
from .overrides import check_length
from .presets import read_presets
from .screen import Screen, shell


def serve() -> int:
    """Serve all presets until Ctrl-C."""
    screen = Screen()
    presets = read_presets().values()
    for preset in presets:
        check_length(preset.parameters)
    blocks = [preset.block for preset in presets]
    os.environ.setdefault("BATCH_LLM_HOME", str(home()))  # Prefect may run flows in another folder
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        screen.say("Registering the deployments ...")
        served = [deployments.deployment_to_serve(block) for block in blocks]
        serve_until_signal(served, partial(_tell, screen, connection.url, [each.name for each in served]))
        connection.end()
    return 0


def _tell(screen: Screen, url: str, names: Sequence[str]) -> None:
    screen.say(f"Serving {', '.join(names)}. Ctrl-C ends it.")
    screen.say(f"Prefect UI: {url.removesuffix('/api')}")
    screen.say("Start a run there, or from another terminal:")
    screen.say(f"  export PREFECT_API_URL={url}")
    screen.say(f"  {shell('prefect deployment run')} {deployments.FLOW}/{names[0]} --watch")
