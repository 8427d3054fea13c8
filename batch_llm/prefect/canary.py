"""A canary inside a flow: the other shards wait for the first one, and for what it shows."""

from __future__ import annotations

from batch_llm.jobs import BatchJob, Plan, ShardOutcome, ask_to_stop
from batch_llm.jobs.sentences import canary_sentence

from .stopping import read_stop


class CanaryWatch:
    """Ends the run when its canary fails, or costs far more than it should.

    Attributes:
        is_out: Whether there is a canary that has not come back: no other shard may start.
    """

    def __init__(self, job: BatchJob, planned: Plan) -> None:
        self._canary = planned.canary
        self._folder = planned.folder
        self._threshold = job.failure_threshold
        self.is_out = planned.canary.items > 0

    def judge(self, outcome: ShardOutcome) -> None:
        """Let the others follow, or end the run, unless something else has; only the first shard is judged."""
        if not self.is_out:
            return
        self.is_out = False
        why = canary_sentence(self._canary, outcome, self._threshold)
        if why and read_stop(self._folder) is None:
            ask_to_stop(self._folder, why, kind="canary")
