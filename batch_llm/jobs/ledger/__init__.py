"""What is written while a job runs: records of finished items, the run's folder, and who owns what.

Results come in from the shards; records, progress and leases go to files that survive a crash. `records` documents the
on-disk format. It imports `storage` and plain values.
"""
