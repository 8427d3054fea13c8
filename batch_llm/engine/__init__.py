"""Execution of one run of work items: a queue, workers, attempts, hooks and totals.

A processor passes work items in; one `WorkItemResult` per item and the totals of the run come out. This package imports
`pacing`, the classifiers, strategies and observers; it knows neither jobs nor files.
"""
