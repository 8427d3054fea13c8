"""The list of commands; `commands/` declares the options of each."""

from __future__ import annotations

from cyclopts import App

from .commands import completion, deploy, estimate, limit, presets, run, runs, server, simulate, trial

HELP = """LLM batches over your documents, as Prefect flows.

Try it, without a key or a network:

  batch-llm demo
"""


def _version() -> str:
    from importlib.metadata import version

    return version("batch-llm")


app = App(
    name="batch-llm",
    help=HELP,
    help_format="plaintext",  # keeps line breaks; markdown takes longer to import than everything else
    suppress_keyboard_interrupt=False,
    version=_version,
    version_flags=["--version"],
)

COMMANDS = (
    run.demo,
    run.run,
    trial.try_,
    estimate.estimate,
    presets.presets,
    presets.show,
    presets.new,
    simulate.simulate,
    runs.status,
    runs.results,
    runs.prune,
    deploy.serve,
    deploy.deploy,
    deploy.automations,
    completion.completion_command(app),
)

SERVER = App(name="server", help="Start, stop or check the local Prefect server.")
LIMIT = App(name="limit", help="Set, show or remove the rate limits that all runs of a scope share.")

for command in COMMANDS:
    app.command(command)
app.command(SERVER)
for command in (server.start, server.stop, server.status):
    SERVER.command(command)
app.command(LIMIT)
LIMIT.command(limit.set_limit, name="set")
LIMIT.command(limit.show_limits, name="show")
LIMIT.command(limit.clear_limit, name="clear")
