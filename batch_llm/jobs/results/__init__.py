"""From the ledger to the output: the merge, statistics, the history of a job, listing and pruning runs.

A plan comes in; the output, the failures file and a `Summary` go out.
"""
