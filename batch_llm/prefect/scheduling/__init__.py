"""Scheduling of shards: task runners, worker pools, clusters, budgets and early stops.

A plan comes in; the outcomes of its shards go out, from the processes and machines that ran them.
"""
