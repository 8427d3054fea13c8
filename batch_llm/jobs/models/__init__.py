"""From a job's model name to the strategy that calls it, with the HTTP clients that it needs.

A job comes in; an `LLMCallStrategy` goes out. A provider's SDK is imported here, and only when its model is used.
"""
