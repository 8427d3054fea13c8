"""The commands with their options and help: each file here is a command or a few that belong together.

They say what a command takes and hand it on; what takes long to import is imported inside them, for help must be
instant. `batch_llm.cli.app` lists them.
"""
