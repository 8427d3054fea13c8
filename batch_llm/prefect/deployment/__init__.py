"""The local server, deployments, served flows and automations.

Presets come in; deployments, flow runs and automations on a Prefect server go out.
"""
