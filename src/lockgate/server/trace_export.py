"""Whether traces are exported, and what became of the spans; what speaks to a collector is `trace_otlp`.

Off by default: then nothing of the SDK is imported. It comes with the extra `traces` of the package.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import threading
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import structlog

from lockgate.model.problem import ProblemError
from lockgate.server import tracing
from lockgate.server.config.sealing import Vault
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import Traces

if TYPE_CHECKING:
    from lockgate.server.trace_otlp import Exporting

log = structlog.get_logger("traces")

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common", "opentelemetry.proto")
MAX_HEADERS = 20

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)  # RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,4000}[!-~])?", re.ASCII)
# What we say ourselves, or what would change how the request is read.
_OURS = frozenset({"content-type", "content-length", "transfer-encoding", "host", "connection", "expect"})


def is_installed() -> bool:
    """Whether the extra `traces` is there."""
    try:
        return all(importlib.util.find_spec(each) is not None for each in PACKAGES)
    except ModuleNotFoundError:
        return False


def parse_url(text: str) -> tuple[bool, str, int, str]:
    """Whether TLS is spoken, host, port and path of a collector. Raises ValueError with the reason."""
    if not re.fullmatch(r"[!-~]{1,300}", text):
        raise ValueError("the address has characters that addresses do not have")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("this is no address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("this is no https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the address has more than host, port and path")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("without TLS traces go to this machine alone")
    return parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80), parts.path or "/"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_headers(text: str) -> dict[str, str]:
    """name=value, separated by commas, values percent-encoded where they have to be: the form in which
    OpenTelemetry's programs take headers. Raises ValueError, which quotes nothing of them."""
    found: dict[str, str] = {}
    for number, each in enumerate(filter(None, (piece.strip() for piece in text.split(","))), 1):
        name, equals, value = (piece.strip() for piece in each.partition("="))
        value = unquote(value)
        if not equals or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"header {number} is none")
        if name.lower() in _OURS:
            raise ValueError(f"header {number} is one that the gateway sets itself")
        found[name] = value
    if len(found) > MAX_HEADERS:
        raise ValueError(f"there are {len(found)} headers, more than {MAX_HEADERS}")
    return found


class Tally:
    """What became of the spans that have ended, since the start of the process. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.exported = 0
        self.lost: Counter[str] = Counter({"queue-full": 0, "not-sent": 0, "rejected": 0})
        """By reason: no room while the collector was slow, it was not reached, it did not want them."""
        self.is_reached: bool | None = None
        """Whether the last try reached the collector; None before the first."""

    def count(self, *, exported: int = 0, reached: bool | None = None, **lost: int) -> None:
        """lost: reasons with _ for -."""
        with self._lock:
            self.exported += exported
            self.lost.update({reason.replace("_", "-"): number for reason, number in lost.items()})
            if reached is not None:
                self.is_reached = reached


class TraceExport:
    """One per control plane; spans are the whole process's."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._settings: tuple[Traces, str] | None = None
        self._exporting: Exporting | None = None
        self.tally = Tally()

    @property
    def is_on(self) -> bool:
        return self._exporting is not None

    async def configure(self, tree: Configuration) -> None:
        """Exports as `tree` says from now on. What waits for the collector of before is still sent."""
        settings, name = tree.traces, tree.cluster.node_name or tree.gateway.hostname
        if self._settings == (settings, name):
            return
        self._settings = (settings, name)
        self._retire()
        if not settings.enabled:
            return
        try:
            # Imports take a moment.
            self._exporting = await asyncio.to_thread(self._open, settings, name)
        except (ImportError, ValueError, ProblemError) as error:
            # A commit is refused for the same; what was committed before must not keep the gateway from starting.
            why = error.problem.summary if isinstance(error, ProblemError) else str(error)
            log.error("traces-not-exported", reason=why)
            return
        self.tally.is_reached = None
        tracing.use(self._exporting.tracer, names_people=settings.name_people)

    def _open(self, settings: Traces, name: str) -> Exporting:
        from lockgate.server.trace_otlp import Exporting

        headers = parse_headers(self._vault.open(settings.headers)) if settings.headers else {}
        return Exporting(
            url=settings.url,
            headers=headers,
            ca=settings.ca,
            share=settings.share / 100,
            instance=name,
            tally=self.tally,
        )

    def _retire(self) -> threading.Thread | None:
        tracing.use(None)
        exporting, self._exporting = self._exporting, None
        if exporting is None:
            return None
        # A collector that does not answer keeps nobody waiting.
        thread = threading.Thread(target=exporting.close, name="traces", daemon=True)
        thread.start()
        return thread

    async def close(self, seconds: float) -> None:
        """No span any more; waits at most that long until those that there are have been sent."""
        self._settings = None
        thread = self._retire()
        if thread is not None:
            await asyncio.to_thread(thread.join, seconds)
