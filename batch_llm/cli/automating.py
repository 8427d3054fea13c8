"""`batch-llm automations`: what the server does by itself when a run goes wrong."""

from __future__ import annotations

from batch_llm.prefect import automations

from .connection import connected
from .interrupts import Interrupts
from .screen import Screen, shell


def install(notify: str | None) -> int:
    """Install the automations of the file.

    Raises:
        BatchLLMError: There is no such block, or it cannot notify.
    """
    screen = Screen()
    blocks = automations.read_automations()
    with Interrupts.caught() as interrupts, connected(interrupts, screen) as connection:
        connection.wait()
        installed = automations.install(blocks, notify)
    for block in blocks:
        if block["name"] in installed:
            screen.say(f"Installed    {block['name']}")
        else:
            screen.say(f"Left out     {block['name']}: nobody is named who can be told")
    if len(installed) < len(blocks):
        screen.say("To be told, create a block in the UI under Blocks (a Slack Webhook, ...), then:")
        screen.say(f"  {shell('batch-llm automations')} --notify slack-webhook/NAME")
    return 0
