"""Simulate before buying: what a run will take, by the engine itself in virtual time, without a call."""

from .forecast import Forecast, simulate
from .scenario import Scenario

__all__ = ["Forecast", "Scenario", "simulate"]
