"""Prices, budgets and their allocation to shards.

Token counts come in; costs, budget shares and permits to spend go out. It imports the ledger and plain values.
"""
