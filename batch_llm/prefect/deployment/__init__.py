"""The local server, deployments, served flows and automations.

Presets come in; what a Prefect server knows of them goes out.
"""
