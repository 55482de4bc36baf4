"""Where and with what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from tests.bench.wireguard import CURRENT

CURRENT_VERSION = CURRENT.with_name("wireguard-go.version")


def facts() -> dict[str, str]:
    """Name → value, in the order to show them."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "rust": _first(["rustc", "--version"], r"rustc (\S+)"),
        "TCP": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "wireguard-go": _file(CURRENT_VERSION, "not built"),
        "wireguard-go packaged": _debian("wireguard-go"),
        "openvpn": _first(["openvpn", "--version"], r"OpenVPN (\S+)"),
        "openconnect": _first(["openconnect", "--version"], r"version v?(\S+)"),
        "ocserv": _first(["ocserv", "--version"], r"ocserv (\S+)"),
        "iperf3": _first(["iperf3", "--version"], r"iperf (\S+)"),
    }


def _file(path: Path, otherwise: str) -> str:
    return path.read_text().strip() if path.exists() else otherwise


def _debian(package: str) -> str:
    """The version Debian's own database has; many a program does not know its packaged version."""
    return _first(["dpkg-query", "--show", "--showformat=${Version}\n", package], r"^(\S+)")


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
