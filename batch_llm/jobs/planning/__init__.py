"""From a source to shards: checks, prompts, keys, prior answers, the canary and estimates.

A job comes in; a `Plan` with shard files in the run's folder goes out. Nothing here calls a model.
"""
