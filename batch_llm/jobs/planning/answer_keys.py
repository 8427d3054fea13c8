"""Keys of answers in the ledger: an answer is reused for a row with the same id and key, and else the row is called."""

from __future__ import annotations

import hashlib
import json

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.prompts import cached_context


class AnswerKeys:
    """Keys of answers: a hash of everything that influences an answer, so that any change causes a new call.

    Example:
        >>> keys = AnswerKeys(job)
        >>> keys.key("Summarize: hello") == keys.key("Summarize: hello!")
        False
    """

    def __init__(self, job: BatchJob, strategy: str = "") -> None:
        shape = {
            "instructions": job.instructions,
            "model": job.model,
            "model_settings": job.model_settings,
            "output_schema": job.output_schema,
            "cached_context": cached_context(job),
            "strategy": strategy,
        }
        # Sorted, because a deployment and its database may change the order of keys.
        self._shape = hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode())

    def key(self, prompt: str) -> str:
        """Return the key of one prompt as hexadecimal text."""
        digest = self._shape.copy()
        digest.update(b"\0" + prompt.encode("utf-8", "replace"))
        return digest.hexdigest()
