"""Pacing of calls: cooldowns, slow start, configured and detected rate limits, and shares of a limit.

A worker asks for a permit before each call and reports the result of the call; the outcome is the time at which the
call may start. This package makes no calls and knows nothing about items. It imports configuration and errors only.
"""
