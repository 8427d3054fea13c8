"""Telemetry of a run: events, tags, metrics, progress and artifacts.

Outcomes and engine events come in; data for the Prefect UI and Prometheus goes out. Nothing here changes a run.
"""
