"""Who is told what happens in a run; a new observer is a new file here."""

from .base import BaseObserver, ProcessingEvent, ProcessorObserver
from .metrics import MetricsObserver

__all__ = ["BaseObserver", "MetricsObserver", "ProcessingEvent", "ProcessorObserver"]
