"""Terminal output and input: progress, reports, signals and the connection to a Prefect server."""
