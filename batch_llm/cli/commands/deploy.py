"""`batch-llm serve`, `deploy` and `automations`."""

from __future__ import annotations

from batch_llm.cli.options import loading


def serve() -> int:
    """Serve all presets from this process: scheduled runs, and runs started from the UI.

    Runs started with `prefect deployment run batch-llm/PRESET` are served too.
    A local Prefect server is started if none is running, and stopped with this
    command. Relative paths start from the current folder.
    """
    with loading():
        from batch_llm.cli.actions.deploy import serve

    return serve()


def deploy(*names: str, pool: str | None = None) -> int:
    """Deploy presets to a work pool, whose workers run them.

    This calls `prefect deploy` with the files that define the presets.

    Examples:

      batch-llm deploy
      batch-llm deploy summarize-nightly --pool nightly

    Parameters
    ----------
    names
        Presets to deploy; without names, all presets.
    pool
        Work pool to use instead of the preset's; it is created as a process pool if it does not exist.
    """
    with loading():
        from batch_llm.cli.actions.deploy import deploy

    return deploy(names, pool)


def automations(*, notify: str | None = None) -> int:
    """Install automations on the Prefect server that react to failed runs.

    They send a notification for failed runs, retry failed items an hour after
    an outage, pause the schedule when the budget is used up, and mark a run
    whose process died as crashed. They are listed in the UI under Automations.
    Run the command again to update them; disabled ones stay disabled. The
    definitions are in deployments/automations.yaml.

    Parameters
    ----------
    notify
        Block that sends the notifications, as type/name, such as slack-webhook/nightly; without it, none are sent.
    """
    with loading():
        from batch_llm.cli.actions.deploy import install

    return install(notify)
