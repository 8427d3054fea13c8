"""The commands with their options and help: each file declares one command or a few related ones.

Arguments come in; the matching function in `actions` gets them. Slow modules are imported inside the functions, because
`--help` must be instant. `batch_llm.cli.app` lists the commands.
"""
