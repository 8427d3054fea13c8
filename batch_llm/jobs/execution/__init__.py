"""One shard through the engine: its items are called, and each result is recorded as it arrives.

A shard reference comes in; a `ShardOutcome` goes out, and the ledger has the answers.
"""
