"""Files, object stores and DuckDB, as every other part of a job uses them.

Paths and addresses come in; bytes, JSON objects and DuckDB relations go out. It imports no other part of `jobs` but
the plain values below it.
"""
