"""`batch-llm serve`, `deploy` and `automations`."""

from __future__ import annotations

from batch_llm.cli.options import loading


def serve() -> int:
    """Serve all presets from this process: scheduled runs, and runs started from the UI.

    Also those of `prefect deployment run batch-llm/PRESET`. Nothing else is
    needed: a local Prefect server is started if there is none, and then ends
    with this command. Relative paths start from the folder where you are.
    """
    with loading():
        from batch_llm.cli.actions.deploy import serve

    return serve()


def deploy(*names: str, pool: str | None = None) -> int:
    """Deploy presets to a work pool, whose workers run them.

    This is `prefect deploy` with deployments/prefect.yaml.

    Examples:

      batch-llm deploy
      batch-llm deploy summarize-nightly --pool nightly

    Parameters
    ----------
    names
        Presets; all of them if none is named.
    pool
        The work pool, instead of the one that the preset names; a process pool is created if there is none.
    """
    with loading():
        from batch_llm.cli.actions.deploy import deploy

    return deploy(names, pool)


def automations(*, notify: str | None = None) -> int:
    """Let the Prefect server act when a run goes wrong; they stand in the UI under Automations.

    It tells of failed runs, tries again an hour after an outage, pauses the
    schedule when the budget is gone, and marks a run whose process died as
    crashed. The same command again brings them up to date; what is switched off
    stays so. This is deployments/automations.yaml.

    Parameters
    ----------
    notify
        The block that tells of failed runs, as type/name, such as slack-webhook/nightly; without it nobody is told.
    """
    with loading():
        from batch_llm.cli.actions.deploy import install

    return install(notify)
