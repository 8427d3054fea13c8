"""Everything that is written while a job runs: records of finished items, the run's folder, leases and claims.

Results of the shards come in; records, progress and leases go to files that survive a crash. `records` documents the
on-disk format. This package imports `storage` and plain values.
"""
