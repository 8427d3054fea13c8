"""Run the command line with `python -m batch_llm`."""

from batch_llm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
