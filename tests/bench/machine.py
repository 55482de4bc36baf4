"""Where and with what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def facts() -> dict[str, str]:
    """Name → value, in the order to show them."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "rust": _first(["rustc", "--version"], r"rustc (\S+)"),
        "openconnect": _first(["openconnect", "--version"], r"version v?(\S+)"),
        "ocserv": _first(["ocserv", "--version"], r"ocserv (\S+)"),
        "iperf3": _first(["iperf3", "--version"], r"iperf (\S+)"),
    }


def load_average() -> float:
    """Runnable processes over the last minute; what others did while we measured."""
    return os.getloadavg()[0]


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def _first(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "not found"
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(1) if match else "unknown"
