"""Simulation of a run with the real engine in virtual time, without any call.

A `Scenario` comes in; a `Forecast` of time, cost, memory and server load goes out.
"""

from .forecast import Forecast, simulate
from .scenario import Scenario

__all__ = ["Forecast", "Scenario", "simulate"]
