"""One run of work items: a queue, workers, attempts, hooks and totals.

Work items come in from a processor; a `WorkItemResult` per item goes out, and the totals of the run. It imports
`pacing`, the classifiers, strategies and observers; it knows neither jobs nor files.
"""
