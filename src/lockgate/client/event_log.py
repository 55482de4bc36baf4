"""The client's event log: what an administrator wants to know, by numbers that never change.

Each event is one JSON line in `events.log` in the state directory and one entry in the system's journal,
or in syslog where there is no journal. Both are told what happens, never asked: neither a full disk nor a
missing journal stops the service.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from lockgate.client.log_file import LogFile
from lockgate.model.text import printable
from lockgate.protocol.errors import UsageError

FILE_NAME = "events.log"
FILE_LIMIT = 1 << 20
"""Bytes before the file is renamed to `.old`. An event is about 250: some four thousand in each."""

FACT_LIMIT = 300  # characters kept of a fact; the longest are a URL and a list of policies
JOURNAL = Path("/run/systemd/journal/socket")
SYSLOG = Path("/dev/log")
IDENTIFIER = "lockgate-client"

_FACILITY_DAEMON = 3 << 3  # RFC 5424, section 6.2.1


class Level(StrEnum):
    INFORMATION = "informational"
    ERROR = "error"


_PRIORITY = {Level.INFORMATION: 6, Level.ERROR: 3}  # syslog(3)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the list. `text` names every fact in braces."""

    level: Level
    text: str
    facts: tuple[str, ...]


def _kind(level: Level, text: str, *facts: str) -> Kind:
    return Kind(level, text, facts)


_INFO, _ERROR = Level.INFORMATION, Level.ERROR

KINDS: dict[int, Kind] = {
    1: _kind(_INFO, "The client service has started, version {version}.", "version"),
    2: _kind(_INFO, "The client service has stopped."),
    100: _kind(_INFO, "The user asked for connection {connection}.", "connection"),
    101: _kind(_INFO, "The user ended connection {connection}.", "connection"),
    102: _kind(
        _INFO,
        "Connection {connection} starts because its policy {policy} is met.",
        *("connection", "policy"),
    ),
    103: _kind(
        _INFO, "Connection {connection} stops because of its policy {policy}.", "connection", "policy"
    ),
    104: _kind(
        _INFO,
        "Connection {connection} stops to come back with the identity {identity}.",
        *("connection", "identity"),
    ),
    105: _kind(
        _INFO, "Connection {connection} starts with the identity {identity}.", "connection", "identity"
    ),
    106: _kind(_INFO, "Connection {connection} pauses while the computer sleeps.", "connection"),
    107: _kind(_INFO, "Connection {connection} ends because the user's login failed.", "connection"),
    108: _kind(_INFO, "Connection {connection} ends because its settings were changed.", "connection"),
    109: _kind(_INFO, "The user suspended connection {connection}.", "connection"),
    110: _kind(_INFO, "The user resumed connection {connection}.", "connection"),
    200: _kind(_ERROR, "A browser asked for {url}, and no connection leads there.", "url"),
    300: _kind(
        _INFO,
        "Connection {connection} reached its gateway through the web proxy {proxy}.",
        *("connection", "proxy"),
    ),
    301: _kind(_INFO, "Connection {connection} reached its gateway at {address}.", "connection", "address"),
    302: _kind(_INFO, "Connection {connection} has ended.", "connection"),
    303: _kind(
        _ERROR,
        "Connection {connection} met an error: {error}. Peer: {peer}.",
        *("connection", "error", "peer"),
    ),
    304: _kind(
        _ERROR,
        "The route to the gateway of connection {connection} changed: from {old} to {new}.",
        *("connection", "old", "new"),
    ),
    305: _kind(
        _INFO, "Connection {connection} goes on over TLS because nothing comes back over ESP.", "connection"
    ),
    306: _kind(_INFO, "Connection {connection} goes on over ESP.", "connection"),
    307: _kind(
        _ERROR,
        "Connection {connection} met an error of this system: {error}. Peer: {peer}.",
        *("connection", "error", "peer"),
    ),
    308: _kind(
        _ERROR,
        "The gateway ended connection {connection}: {reason}. Peer: {peer}.",
        *("connection", "reason", "peer"),
    ),
    400: _kind(
        _ERROR,
        "This computer does not meet what connection {connection} demands: {policies}.",
        *("connection", "policies"),
    ),
    500: _kind(_INFO, "An update was installed; all components are current."),
    501: _kind(_INFO, "An update was asked for; all components were current already."),
    502: _kind(_ERROR, "An update failed: {reason}.", "reason"),
    600: _kind(
        _ERROR,
        "Connection {connection} was refused by the local network: {error}.",
        *("connection", "error"),
    ),
    601: _kind(_INFO, "The user gave up signing in to the network of connection {connection}.", "connection"),
    602: _kind(
        _ERROR,
        "The wireless profile {profile} of connection {connection} was not written: {error}, {reason}.",
        *("connection", "error", "reason", "profile"),
    ),
    603: _kind(
        _ERROR,
        "The wireless profile of connection {connection} was not deleted: {error}.",
        *("connection", "error"),
    ),
    604: _kind(
        _ERROR,
        "The wired profile {profile} of connection {connection} was not written: {error}.",
        *("connection", "error", "profile"),
    ),
    605: _kind(
        _ERROR,
        "The wired profile of connection {connection} was not deleted: {error}.",
        *("connection", "error"),
    ),
}
"""Numbers, levels and facts are those of the clients in the field; the words are ours. 104 and 105 are the
two halves of a change between machine and user; in 304, old and new are addresses of an interface."""


class EventLog:
    """Writes events. Facts may come from anywhere: they are bounded, and cannot begin a line of their own."""

    def __init__(
        self,
        directory: Path,
        *,
        journal: Path = JOURNAL,
        syslog: Path = SYSLOG,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = LogFile(directory / FILE_NAME, FILE_LIMIT)
        self._system = _SystemLog(journal, syslog)
        self._clock = clock

    def write(self, event: int, **facts: str) -> None:
        """Writes one event with the facts its row of KINDS names; an empty one is not known.

        Raises UsageError for an event without a row and for other facts than the row's.
        """
        kind = KINDS.get(event)
        if kind is None or facts.keys() != set(kind.facts):
            raise UsageError(f"event {event} does not go with the facts {sorted(facts)}")
        safe = {name: printable(facts[name], FACT_LIMIT) for name in kind.facts}
        text = kind.text.format_map({name: value or "unknown" for name, value in safe.items()})
        now = self._clock()
        entry = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "id": event,
            "level": kind.level.value,
            "connection": safe.pop("connection", None),
            "text": text,
            "facts": safe,
        }
        self._file.write(json.dumps(entry, ensure_ascii=False))
        self._system.write(event, _PRIORITY[kind.level], text, entry["connection"], now)

    def close(self) -> None:
        self._file.close()
        self._system.close()


class _SystemLog:
    """The journal's native protocol (systemd, "Native Journal Protocol"), else the local syslog socket."""

    def __init__(self, journal: Path, syslog: Path) -> None:
        self._journal, self._syslog = journal, syslog
        self._socket: socket.socket | None = None
        self._is_journal = False

    def write(self, event: int, priority: int, text: str, connection: object, now: float) -> None:
        for _ in range(2):
            if self._socket is None and not self._open():
                return
            if self._is_journal:
                fields = {
                    "MESSAGE": text,
                    "PRIORITY": priority,
                    "SYSLOG_IDENTIFIER": IDENTIFIER,
                    "LOCKGATE_EVENT": event,
                    **({"LOCKGATE_CONNECTION": connection} if connection else {}),
                }
                # Values without line ends may be written like this.
                data = "".join(f"{name}={value}\n" for name, value in fields.items())
            else:
                stamp = time.strftime("%b %e %H:%M:%S", time.localtime(now))
                head = f"<{_FACILITY_DAEMON | priority}>{stamp} {IDENTIFIER}[{os.getpid()}]: "
                data = f"{head}event {event}: {text}"
            assert self._socket is not None
            try:
                self._socket.send(data.encode(errors="backslashreplace"))
                return
            except BlockingIOError:
                return  # its queue is full: the file has the event
            except OSError:
                self.close()  # it was started anew: its socket is another one

    def _open(self) -> bool:
        for path, is_journal in ((self._journal, True), (self._syslog, False)):
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            with contextlib.suppress(OSError):
                opened.connect(str(path))
                self._socket, self._is_journal = opened, is_journal
                return True
            opened.close()
        return False

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
