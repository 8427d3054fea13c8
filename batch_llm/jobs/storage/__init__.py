"""Access to files, object stores and DuckDB for every other part of a job.

Paths and URLs come in; bytes, JSON objects and DuckDB relations go out. This package imports no other part of `jobs`
except the plain values below it.
"""
