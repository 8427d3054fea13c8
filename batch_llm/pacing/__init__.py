"""When a call may start: cooldowns, slow start, found and stated rate limits, and shares of a limit.

A worker asks before each call and reports how the call ended; what comes out is a wait. Nothing here performs a call
or knows what an item is. It imports configuration and errors only.
"""
