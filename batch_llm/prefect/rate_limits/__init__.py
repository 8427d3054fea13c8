"""One rate limit for all processes that call the same model: stated limits, members and their shares.

Governors come in; they are kept within their share of what the provider allows, through Prefect's server.
"""
