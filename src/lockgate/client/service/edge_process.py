"""The client edge as a process: found again after a restart of the service, or started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from lockgate.client.service.edge_link import EdgeLink
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol import edge_link
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("edge")

SOCKET_NAME = "edge.sock"
PID_NAME = "edge.pid"
LOG_NAME = "edge.log"
LOG_LIMIT = 4 << 20  # bytes after which a new edge starts its log anew
ATTEMPTS = 3  # edges started in a row before it counts as impossible
STOP_PATIENCE = 3.0  # seconds for an edge to end after SIGTERM


def program() -> Path:
    """`lockgate-edge` beside the running interpreter. Raises ProblemError when it is not installed."""
    binary = Path(sys.prefix) / "bin" / "lockgate-edge"
    if not os.access(binary, os.X_OK):
        raise ProblemError(
            Problem(
                "edge-missing",
                f"The program {binary} is missing.",
                "Install Lockgate again; a source checkout needs `make setup`.",
            )
        )
    return binary


class EdgeProcess:
    """Keeps a link to a living edge. The edge is not a child to be ended with us: it outlives the service."""

    def __init__(self, run_directory: Path, state_directory: Path) -> None:
        self._run_directory = run_directory
        self._path = run_directory / SOCKET_NAME
        self._log = state_directory / LOG_NAME
        self._child: subprocess.Popen[bytes] | None = None

    async def find(
        self, on_message: Callable[[edge_link.FromEdge], None]
    ) -> tuple[EdgeLink, edge_link.EdgeHello] | None:
        """The edge of an earlier service, or None."""
        link = EdgeLink(on_message)
        try:
            return link, await link.open(self._path)
        except PeerError as error:
            log.warning("edge-unusable", reason=str(error))
            await self.stop()
        except OSError:
            pass
        return None

    async def start(
        self, on_message: Callable[[edge_link.FromEdge], None]
    ) -> tuple[EdgeLink, edge_link.EdgeHello]:
        """A new edge and the link to it. Raises ProblemError when none can be started."""
        binary = program()
        reason = "it ended at once"
        for _ in range(ATTEMPTS):
            self._launch(binary)
            link = EdgeLink(on_message)
            try:
                return link, await link.open(self._path)
            except (OSError, PeerError) as error:
                reason = str(error)
                await self._end_child()
        raise ProblemError(
            Problem(
                "edge-failed",
                f"The packet process cannot be started: {reason}.",
                f"Look into {self._log}.",
            )
        )

    def _launch(self, binary: Path) -> None:
        if self._child is not None:
            self._child.poll()  # an earlier one has ended: no zombie stays
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            old = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(old)
            listener.listen(8)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            output = os.open(self._log, flags, 0o600)
            try:
                if os.fstat(output).st_size > LOG_LIMIT:
                    os.ftruncate(output, 0)
                self._child = subprocess.Popen(
                    [str(binary), "client"],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                    cwd="/",
                    env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                )
            finally:
                os.close(output)
            bootstrap = {"link_fd": listener.fileno(), "control_uid": os.getuid()}
            assert self._child.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(json.dumps(bootstrap).encode())
                self._child.stdin.close()
        pid = self._child.pid
        (self._run_directory / PID_NAME).write_text(f"{pid} {_start_time(pid)}\n")
        log.info("edge-started", pid=pid)

    async def stop(self) -> None:
        """Ends the edge, also one that an earlier service started."""
        await asyncio.to_thread(end_edge, self._run_directory)
        await self._end_child()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.terminate()
            try:
                await asyncio.to_thread(child.wait, STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                await asyncio.to_thread(child.wait)

    def reap(self) -> None:
        """Collects an edge that has ended."""
        if self._child is not None:
            self._child.poll()


def _start_time(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5), field 22); empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def living_edge(run_directory: Path) -> int | None:
    """The edge that was started last, when it still lives. A number that the kernel has given to
    another process since is recognised by its start time."""
    try:
        words = (run_directory / PID_NAME).read_text().split()
        pid, started = int(words[0]), words[1]
    except (OSError, ValueError, IndexError):
        return None
    return pid if started and _start_time(pid) == started else None


def end_edge(run_directory: Path) -> bool:
    """Ends the edge that was started last: SIGTERM, and SIGKILL when that does not help. False when
    there is none."""
    pid = living_edge(run_directory)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if living_edge(run_directory) != pid:  # now that it cannot become another process
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            ended, _, _ = select.select([descriptor], [], [], STOP_PATIENCE)
            if not ended:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
    return True
