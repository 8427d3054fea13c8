"""Results of runs: merging the ledger into the output, statistics, history, listing and pruning of runs.

A plan and its ledger come in; the output, the failures file and a `Summary` go out. This package imports `ledger`,
`sinks`, `planning` and `spending`.
"""
