"""Actions of `batch-llm status`, `results` and `prune`, which read the ledger and need no server."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.table import Table

from batch_llm.cli.terminal.report import results_table
from batch_llm.cli.terminal.screen import Screen, print_json, shell
from batch_llm.errors import JobError
from batch_llm.jobs.messages import budget_line, duration, failures, lane_line, money, speed_line
from batch_llm.jobs.provider_messages import provider_first
from batch_llm.jobs.results.outcomes import FAILURES_FIRST, read_results
from batch_llm.jobs.results.prune import Pruned
from batch_llm.jobs.results.prune import prune as prune_name
from batch_llm.jobs.results.runs import (
    RunRecord,
    RunState,
    choose_results,
    find_run,
    find_runs,
    read_rows,
    read_run_state,
)
from batch_llm.jobs.run_types import Summary
from batch_llm.jobs.sinks import OutputPlace, open_sink
from batch_llm.jobs.storage.duckdb_session import open_tables
from batch_llm.jobs.storage.formats import check_output
from batch_llm.jobs.storage.store import Store

MOST_RUNS = 20


def status(wanted: str, ledger: str, *, for_program: bool) -> int:
    """Print the newest runs, or the details of one."""
    screen, store = Screen(), Store(ledger)
    if not wanted:
        runs = find_runs(store)[:MOST_RUNS]
        if for_program:
            print_json([_as_json(run, read_run_state(run)) for run in runs])
            return 0
        screen.out.print(_runs_table(runs))
        screen.print(f"\nDetails of a run: {shell('batch-llm status RUN')}. Ledger: {store.address}")
        return 0
    run = find_run(store, wanted)
    found = read_run_state(run)
    if for_program:
        print_json(_as_json(run, found))
    else:
        _print_run(screen, run, found)
    return 0


def _as_json(run: RunRecord, found: RunState) -> dict[str, object]:
    totals = {name: getattr(found.totals, name) for name in Summary.__dataclass_fields__}
    return {"name": run.name, "run": run.id, "state": found.state, "began": _when(run), **totals}


def _runs_table(runs: Sequence[RunRecord]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    for title in ("run", "began", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("answered", "failed", "missing", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    for run in runs:
        found = read_run_state(run)
        totals = found.totals
        answered = f"{totals.succeeded:,}/{totals.total_items:,}"
        counts = (f"{totals.failed:,}", f"{totals.not_attempted:,}", money(totals.cost_usd))
        table.add_row(run.name, run.id[:8], _when(run)[5:16], found.state, answered, *counts)
    return table


def _print_run(screen: Screen, run: RunRecord, found: RunState) -> None:
    totals = found.totals
    facts = {
        "run": f"{run.name} {run.id}",
        "state": f"{found.state}: {totals.stopped}" if totals.stopped else found.state,
        "began": f"{_when(run)}, took {duration(totals.seconds)}",
        "source": str(run.plan.get("source", "")),
        "model": str(run.plan.get("model", "")),
        "answered": f"{totals.succeeded:,} of {totals.total_items:,}, {totals.reused:,} reused",
        "failed": f"{totals.failed:,} ({failures(totals.categories)})" if totals.failed else "0",
        "truncated": f"{totals.truncated:,} at the token limit: finish_reason = 'length'" if totals.truncated else "",
        "missing": f"{totals.not_attempted:,}",
        "left out": f"{totals.left_out:,}" if totals.left_out else "",
        "tokens": f"{totals.total_input_tokens:,} in ({totals.total_cached_input_tokens:,} cached), "
        f"{totals.total_output_tokens:,} out",
        "speed": speed_line(totals),
        "cost": money(totals.cost_usd) + (f" (saved {money(totals.saved_usd)})" if totals.saved_usd else ""),
        "lanes": "; ".join(map(lane_line, totals.lanes)),
        "prices": totals.priced_by,
        "budget": "; ".join(map(budget_line, totals.budgets)),
        "output": totals.output,
        "failures": totals.failures or "",
        "ledger": run.store.address,
    }
    for name, value in facts.items():
        if value:
            screen.print(f"{name:>9}  {value}")
    if found.examples:
        screen.print()
    for category, error in found.examples.items():
        screen.print(f"{category}: {' '.join(provider_first(error).split())[:200]}")


def _when(run: RunRecord) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.planned_at))


def results(wanted: str, ledger: str, *, where: str, limit: int, output: str, for_program: bool) -> int:
    """Print items of a run, or write them to a file."""
    screen = Screen(for_program=for_program)
    if output:
        _check(output)
    if limit < 1:
        raise JobError(f"--limit is {limit}: it must be 1 or more")
    run = find_run(Store(ledger), wanted)
    with open_tables() as tables:
        count = choose_results(tables, run, where)
        if output:
            written = open_sink(OutputPlace.parse(output)).write(
                tables, [f"SELECT * FROM chosen ORDER BY {FAILURES_FIRST}, id"]
            )
            screen.print(f"{count:,} items: {written}")
            if for_program:
                print_json({"name": run.name, "run": run.id, "items": count, "output": written})
            return 0
        if for_program:
            rows = read_rows(tables, limit)
            print_json({"name": run.name, "run": run.id, "items": count, "results": rows})
            return 0
        found = read_results(tables, "chosen", f"{FAILURES_FIRST}, id", limit).results
    if found:
        screen.out.print(results_table(found, screen.out.width))
    more = f", {len(found):,} shown" if count > len(found) else ""
    screen.print(f"{count:,} items of {run.name} {run.id}{more}")
    return 0


def _check(output: str) -> None:
    try:
        check_output(output)
    except ValueError as error:
        raise JobError(f"--output is {output!r}: {error}") from error


def prune(names: Sequence[str], ledger: str, *, keep_days: float, dry_run: bool) -> int:
    """Remove old runs of the given names, or of all names."""
    screen, store = Screen(), Store(ledger)
    if keep_days < 0:
        raise JobError(f"--keep-days is {keep_days:g}: it must be 0 or more")
    for name in names or sorted({run.name for run in find_runs(store)}):

        def wait(other: str, name: str = name) -> None:
            screen.print(f"Waiting for {other}, which is using the ledger of {name}")

        done = prune_name(store, name, keep_days=keep_days, waits_for=wait, dry_run=dry_run)
        screen.print(_pruned(done, keep_days, dry_run=dry_run))
    return 0


def _pruned(done: Pruned, keep_days: float, *, dry_run: bool) -> str:
    if not done.runs:
        return f"{done.name}: no run is older than {keep_days:g} days"
    removed = "would be removed" if dry_run else "removed"
    runs = f"{len(done.runs):,} run(s), {done.files:,} files, {done.bytes / 1e6:,.1f} MB {removed}"
    deleted = "would be deleted" if dry_run else "deleted"
    kept = f"{done.kept_answers:,} answers are kept because remaining runs need them"
    return f"{done.name}: {runs}; {kept}; {done.dropped_answers:,} {deleted}"
