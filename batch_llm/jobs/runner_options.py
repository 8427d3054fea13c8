"""The settings `runner` and `runner_options` of a job: names, options and required packages."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import ClassVar, Literal

from batch_llm.errors import JobError

RunnerName = Literal["auto", "threads", "processes", "pool", "dask", "ray"]

OPTIONS: dict[RunnerName, tuple[str, ...]] = {
    "auto": (),
    "threads": (),
    "processes": ("processes",),
    "pool": ("processes",),
    "dask": ("processes", "address"),
    "ray": ("processes", "address"),
}
"""Which options each runner takes."""

PACKAGES: dict[RunnerName, str] = {"dask": "prefect_dask", "ray": "prefect_ray"}
"""Package that a runner requires; the extra with the runner's name installs it."""


def check_runner(runner: RunnerName) -> None:
    """Check that the package of a runner is installed.

    Raises:
        JobError: The package is missing; the message says what to install.
    """
    if (package := PACKAGES.get(runner)) and find_spec(package) is None:
        raise JobError(f"runner {runner!r} needs a package: pip install 'batch-llm[{runner}]'")


@dataclass(frozen=True)
class RunnerOptions:
    """Options of a runner; `OPTIONS` lists which runner accepts which option.

    Attributes:
        processes: Number of shards at once, each in its own process. Default: one per core, per worker of the work
            pool, or per slot of an existing cluster.
        address: Address of an existing Dask scheduler or Ray cluster. Default: a cluster is started for the run.

    Raises:
        ValueError: A value breaks its rule.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    processes: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes is {self.processes}; it must be 1 or more")

    def check_for(self, runner: RunnerName) -> None:
        """Check that the runner accepts every option that is set.

        Raises:
            ValueError: The runner does not accept an option; the message names the runners that do.
        """
        for option in fields(self):
            if getattr(self, option.name) is not None and option.name not in OPTIONS[runner]:
                takers = [repr(name) for name, taken in OPTIONS.items() if option.name in taken]
                raise ValueError(
                    f"runner_options.{option.name} is not used by the runner {runner!r}: remove it, or set runner "
                    f"to {' or '.join(takers)}"
                )
