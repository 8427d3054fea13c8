"""What carries a run's shards, as a job says it."""

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
"""What a runner needs beside us; the extra of its name brings it."""


def check_runner(runner: RunnerName) -> None:
    """See that what a runner needs is installed.

    Raises:
        JobError: One line: what to install.
    """
    if (package := PACKAGES.get(runner)) and find_spec(package) is None:
        raise JobError(f"runner {runner!r} needs a package: pip install 'batch-llm[{runner}]'")


@dataclass(frozen=True)
class RunnerOptions:
    """What a runner is told; each takes its own, as `OPTIONS` says.

    Attributes:
        processes: Shards at once, each in a process of its own. Without it: one for each core, for each worker of the
            work pool, or for each place in an existing cluster.
        address: Of an existing Dask scheduler or Ray cluster. Without it, one is started for the run.

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
        """Refuse an option that the runner does not take.

        Raises:
            ValueError: With the runners that take it.
        """
        for option in fields(self):
            if getattr(self, option.name) is not None and option.name not in OPTIONS[runner]:
                takers = [repr(name) for name, taken in OPTIONS.items() if option.name in taken]
                raise ValueError(
                    f"runner_options.{option.name} means nothing to the runner {runner!r}: leave it out, or set runner "
                    f"to {' or '.join(takers)}"
                )
