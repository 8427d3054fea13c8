"""Observers: receivers of the events of a run; add an observer as a new file here.

The engine passes each event to every observer, next to the calls. This package imports nothing else of the package.
"""

from .base import BaseObserver, ProcessingEvent, ProcessorObserver
from .metrics import MetricsObserver

__all__ = ["BaseObserver", "MetricsObserver", "ProcessingEvent", "ProcessorObserver"]
