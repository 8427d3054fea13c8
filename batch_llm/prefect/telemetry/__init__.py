"""What a run publishes: events, tags, metrics, progress and artifacts.

Outcomes and engine events come in; what the Prefect UI and Prometheus show goes out. Nothing here decides anything.
"""
