"""Allocation of a run's budget to processes on several machines, through a journal in the ledger.

    <run>/budget/<plan>/limits.json    status of the budgets before the first shard
    <run>/budget/<plan>/000001.json    a share given to a shard, or the spending of a finished shard

A process adds an entry by creating the next file. Only one process can create a file, so a process that adds an entry
has read all entries before it. Spending plus shares therefore never exceed the budget, and no process depends on
another being alive. The share of a process that died goes to the process that claims its shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from batch_llm.errors import JobError
from batch_llm.jobs.budget_types import BudgetShare, BudgetStatus, Spent
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger import heartbeat
from batch_llm.jobs.ledger.heartbeat import StalenessTimer
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.run_types import Plan, ShardOutcome, ShardRef
from batch_llm.jobs.spending.calibration import guessed_output_tokens
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.store import Store

from .allocation import BudgetAllocator, ShardSpend
from .budgets import budgets_of, read_budget_status

_LIMITS = "limits.json"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Journal entry about a claimed shard: the share with which it starts, or its spending when it has finished."""

    index: int
    claim: int
    share: BudgetShare | None = None
    ending: ShardSpend | None = None


_entry = TypeAdapter(_Entry)
_limits = TypeAdapter(list[BudgetStatus])


class JournaledAllocator(BudgetAllocator):
    """Budget allocator that is shared by processes on several machines. Without budgets nothing is written.

    Args:
        limits: Budgets of the job, with the spending before this run's shards.
        output_tokens: Expected output tokens of an answer, until one was received.
        journal: Folder of the plan's journal, which all processes can reach.
    """

    def __init__(self, limits: list[BudgetStatus], output_tokens: float, journal: Store) -> None:
        super().__init__(limits, output_tokens)
        self._journal = journal
        self._number = 0  # of the last entry that was read
        self._claims: dict[int, int] = {}  # newest claim by shard
        self._finished: dict[int, Spent] = {}
        self._watch = StalenessTimer()

    @classmethod
    def of(cls, job: BatchJob, run: RunFolder, planned: Plan) -> JournaledAllocator:
        """Return the allocator of a run for one of its processes.

        Raises:
            JobError: The ledger cannot be read or written.
        """
        plan = planned.shards[0].part.partition("-")[0] if planned.shards else ""
        journal = run.store.folder("budget").folder(plan)
        limits = _first_limits(job, run, journal) if plan else read_budget_status(job, run)
        return cls(limits, guessed_output_tokens(job), journal)

    def read(self) -> None:
        """Read new entries of the journal.

        Raises:
            OSError: The ledger cannot be read.
            JobError: An entry in it is damaged.
        """
        while self._limits and (content := self._journal.read(name := _name(self._number + 1))) is not None:
            try:
                entry = _entry.validate_json(content)
            except ValueError as error:
                if self._watch.seconds_unchanged(name, content) > heartbeat.STALE_SECONDS:
                    raise JobError(f"{self._journal.address}/{name} is damaged: run again to continue") from error
                raise OSError(f"{name} is being written") from error
            self._apply(entry)

    def share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        """Allocate a share to a shard; None if the remaining budget is too small or another process claimed the shard.

        Raises:
            OSError: The ledger cannot be reached.
            JobError: An entry in it is damaged.
        """
        if not self._limits:
            return super().share(shard, at_once)
        beside = list(at_once)
        while True:
            self.read()
            if self._claims.get(shard.index, 0) > shard.claim:
                return None
            share = self._left_to(shard.index) or self._offer(shard, beside)
            if share is None or self._append(_Entry(shard.index, shard.claim, share=share)):
                return share

    def release(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Return a shard's unspent share to the budget, unless another process has claimed the shard.

        Raises:
            OSError: The ledger cannot be reached.
            JobError: An entry in it is damaged.
        """
        entry = _Entry(shard.index, shard.claim, ending=ShardSpend.of(outcome))
        while self._limits:
            self.read()
            if self._claims[shard.index] > shard.claim or self._append(entry):
                return

    def is_held(self, shard: ShardRef) -> bool:
        """Return whether a shard holds a share."""
        return shard.index in self._held

    def fits(self, shard: ShardRef) -> bool:
        """Return whether a process that claims the shard could get a share for it."""
        return bool(self._left_to(shard.index) or self._offer(shard, [shard]))

    def _left_to(self, index: int) -> BudgetShare | None:
        """Return the share of a shard whose process is gone, including a finished shard that was not marked as done."""
        if index in self._held:
            return replace(self._held[index], estimate=self._estimate)
        spent = self._finished.get(index)
        return spent and BudgetShare(spent.usd, spent.tokens, self._estimate)

    def _append(self, entry: _Entry) -> bool:
        if not self._journal.create(_name(self._number + 1), _entry.dump_json(entry)):
            return False
        self._apply(entry)
        return True

    def _apply(self, entry: _Entry) -> None:
        self._number += 1
        self._claims[entry.index] = entry.claim
        if entry.share is not None:
            self._held[entry.index] = entry.share
        if entry.ending is not None:
            self._end(entry.index, entry.ending)
            self._finished.pop(entry.index, None)
            if not entry.ending.left:
                self._finished[entry.index] = entry.ending.spent


def _first_limits(job: BatchJob, run: RunFolder, journal: Store) -> list[BudgetStatus]:
    """Return the budgets as the first process read them, without spending of this run."""
    if not budgets_of(job):
        return []
    try:
        content = journal.read(_LIMITS)
        if content is None:
            journal.create(_LIMITS, to_json(read_budget_status(job, run)).encode())
            content = journal.read(_LIMITS) or b""
        return _limits.validate_json(content)
    except (OSError, ValueError) as error:
        raise JobError(f"the ledger cannot be used for the budget, {journal.address}: {error}") from error


def _name(number: int) -> str:
    return f"{number:06d}.json"
