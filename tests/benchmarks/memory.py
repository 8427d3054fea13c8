"""The memory of this process as Linux counts it: the resident set, free of charge (proc(5))."""

from __future__ import annotations

import re
from pathlib import Path


def resident_bytes() -> int:
    """Return the current resident set."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Return the largest resident set since the process began, or since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Reset the peak to the current resident set."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"/proc/self/status has no {field}"
    return int(found[1]) * 1024
