"""The channel between `batch-llm run` and the process of its flow; importing it does not import Prefect.

The command sends requests, one JSON object a line. The reply to each is `{"result": ...}` or `{"error": text}`. After
the request `create_run` the process runs the flow; its last line is the final state of the run.
"""

from __future__ import annotations

import json
import select
import socket
from dataclasses import dataclass
from typing import Any

_COMPLETED, _FAILED, _CRASHED, _CANCELLED = "COMPLETED", "FAILED", "CRASHED", "CANCELLED"


@dataclass(frozen=True, slots=True)
class FlowState:
    """State of a flow run, as plain text.

    Attributes:
        type: Type of Prefect's state, such as COMPLETED.
        name: Name of the state, such as BudgetReached.
        message: Its message; empty without one.

    Example:
        >>> FlowState("FAILED", "Failed", "3 items are missing").is_failed()
        True
    """

    type: str
    name: str = ""
    message: str = ""

    def is_completed(self) -> bool:
        """Return whether the run completed."""
        return self.type == _COMPLETED

    def is_failed(self) -> bool:
        """Return whether the run failed."""
        return self.type == _FAILED

    def is_crashed(self) -> bool:
        """Return whether the run's process exited without a final state."""
        return self.type == _CRASHED

    def is_cancelled(self) -> bool:
        """Return whether a user, or a budget, ended the run."""
        return self.type == _CANCELLED

    @classmethod
    def failed(cls, message: str) -> FlowState:
        """Return the state of a run that could not start."""
        return cls(_FAILED, "Failed", message)

    @classmethod
    def crashed(cls, message: str) -> FlowState:
        """Return the state of a run whose process exited."""
        return cls(_CRASHED, "Crashed", message)

    @classmethod
    def cancelled(cls, message: str) -> FlowState:
        """Return the state of a run that the user stopped."""
        return cls(_CANCELLED, "Cancelled", message)


class Channel:
    """One end of a connection between two processes, on which each line is a JSON object.

    Args:
        connection: The connected socket.

    Example:
        >>> ours, theirs = map(Channel, socket.socketpair())
        >>> ours.send({"request": "check"})
        >>> theirs.receive()
        {'request': 'check'}
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: The other process has exited.
        """
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None if the other process has closed its end.

        Args:
            seconds: How long to wait; None for ever.

        Raises:
            TimeoutError: No message came in time.
        """
        while b"\n" not in self._received:
            if not select.select([self._socket], [], [], seconds)[0]:
                raise TimeoutError
            try:
                more = self._socket.recv(1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """Close this end: the other process receives None."""
        self._socket.close()
