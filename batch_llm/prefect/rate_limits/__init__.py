"""One rate limit for all processes in a scope: configured limits, processes and their shares.

Governors come in; their rates are kept within the process's share of the limit, through the Prefect server.
"""
