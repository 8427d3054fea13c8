"""Action of `batch-llm try`: call one or several models for the first rows, and print their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from batch_llm.cli.terminal.screen import Screen, print_json
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, source_warnings
from batch_llm.jobs.messages import money
from batch_llm.jobs.models.factory import check_model
from batch_llm.jobs.planning.items import Item
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.trial import MOST_ROWS, Agreement, Trial, TrialAnswer, agreement, fields_of, first_items, try_model

ANSWERED, FAILED, INTERRUPTED = 0, 1, 130

MOST_CHARACTERS = 1_000
"""Characters of a prompt that are shown; --json has all of it."""


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A trial that the user requested.

    Attributes:
        preset: Name of the preset.
        parameters: Settings of the preset and the user together.
        models: Models to compare; empty for the model of the parameters.
        limit: Number of rows.
    """

    preset: str
    parameters: Mapping[str, Any]
    models: Sequence[str]
    limit: int

    def jobs(self) -> list[BatchJob]:
        """Return a job for each model.

        Raises:
            JobError: A setting is invalid, or a model cannot be used.
        """
        if self.limit not in range(1, MOST_ROWS + 1):
            raise JobError(f"--limit is {self.limit}: a trial has from 1 to {MOST_ROWS} rows")
        given = {**self.parameters, "limit": self.limit}
        jobs = [BatchJob.parse(given | {"model": model}) for model in dict.fromkeys(self.models)]
        jobs = jobs or [BatchJob.parse(given)]
        for job in jobs:  # before the first call is paid for
            check_model(job)
        return jobs


def try_models(request: TrialRequest, *, for_program: bool) -> int:
    """Print the answers of one or several models; return 0 if each model answered each row, 130 after Ctrl-C, else 1.

    Raises:
        JobError: The job cannot run, or a model cannot be used.
    """
    screen = Screen(for_program=for_program)
    with screen.phase("Checking the job"):
        jobs = request.jobs()
        items = first_items(jobs[0])
        warnings = source_warnings(jobs[0])
    trials: list[Trial] = []
    try:
        for job in jobs:
            with screen.phase(f"Calling {job.model}"):
                trials.append(try_model(job, items))
    except KeyboardInterrupt:
        screen.error.print("batch-llm: stopped; no answer is stored", markup=False)
        return INTERRUPTED
    agreed = agreement(trials) if len(trials) > 1 else {}
    if for_program:
        print_json(_as_json(request.preset, items, trials, agreed) | {"warnings": warnings})
    else:
        for warning in warnings:
            screen.print(f"Warning: {warning}.")
        _print_rows(screen, items, trials)
        _print_totals(screen, trials, agreed)
    return ANSWERED if all(trial.answered == len(items) for trial in trials) else FAILED


def _print_rows(screen: Screen, items: Sequence[Item], trials: Sequence[Trial]) -> None:
    for number, item in enumerate(items):
        screen.print()
        screen.out.print(item.id, style="bold", markup=False)
        _print_text(screen, "prompt", _cut(item.prompt or ""))
        for trial in trials:
            answer = trial.answers[number]
            if len(trials) > 1:
                screen.print(f"  {trial.model}")
            _print_text(screen, "" if len(trials) > 1 else "answer", _shown(answer))
            if answer.attempts:
                _print_text(screen, "", f"({_spent(answer)})")


def _print_text(screen: Screen, title: str, text: str) -> None:
    for line in text.splitlines():
        screen.print(f"  {title:<8} {line}")
        title = ""


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"


def _shown(answer: TrialAnswer) -> str:
    if answer.error is not None:
        return f"{answer.error_category}: {answer.error}"
    if isinstance(answer.output, str):
        return answer.output
    return "\n".join(f"{name}: {_value(value)}" for name, value in fields_of(answer.output).items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _spent(answer: TrialAnswer) -> str:
    tokens = f"{answer.input_tokens:,} tokens in, {answer.output_tokens:,} out"
    parts = [tokens, money(answer.cost_usd), f"{answer.seconds:.1f} s"]
    parts += [f"{answer.attempts} attempts"] if answer.attempts > 1 else []
    parts += ["cut off at the token limit"] if answer.finish_reason == "length" else []
    return ", ".join(parts)


def _print_totals(screen: Screen, trials: Sequence[Trial], agreed: Mapping[str, Agreement]) -> None:
    screen.print()
    table = _table("model", "answered", "tokens in", "tokens out", "cost", "median", "all rows")
    for trial in trials:
        middle = "" if trial.median_seconds is None else f"{trial.median_seconds:.1f} s"
        answered = f"{trial.answered:,}/{len(trial.answers):,}"
        tokens = (f"{count:,}" for count in (trial.input_tokens, trial.output_tokens))
        table.add_row(trial.model, answered, *tokens, money(trial.cost_usd), middle, f"{trial.seconds:.1f} s")
    screen.out.print(table)
    if agreed:
        screen.print()
        table = _table("field", "same answer")
        for name, found in agreed.items():
            table.add_row(name, f"{found.same:,} of {found.rows:,} rows")
        screen.out.print(table)
    screen.print()
    for trial in trials:
        for warning in trial.warnings:
            screen.print(f"Warning: {trial.model}: {' '.join(warning.split())}")
    screen.print("These answers are not stored: a run calls these rows again.")


def _table(first: str, *others: str) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _as_json(
    preset: str, items: Sequence[Item], trials: Sequence[Trial], agreed: Mapping[str, Agreement]
) -> dict[str, Any]:
    rows = [
        {
            "id": item.id,
            "prompt": item.prompt,
            "answers": {trial.model: asdict(trial.answers[number]) for trial in trials},
        }
        for number, item in enumerate(items)
    ]
    models = {
        trial.model: {
            "answered": trial.answered,
            "failed": len(trial.answers) - trial.answered,
            "input_tokens": trial.input_tokens,
            "output_tokens": trial.output_tokens,
            "cost_usd": trial.cost_usd,
            "median_seconds": trial.median_seconds,
            "seconds": trial.seconds,
            "warnings": trial.warnings,
        }
        for trial in trials
    }
    agreements = {name: asdict(found) for name, found in agreed.items()}
    return {"preset": preset, "models": models, "agreement": agreements, "rows": rows}
