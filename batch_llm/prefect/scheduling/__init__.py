"""Which shard runs where and when: task runners, worker pools and clusters, and what stops a run early.

A plan comes in; the outcomes of its shards go out, in whatever process or machine they ran.
"""
