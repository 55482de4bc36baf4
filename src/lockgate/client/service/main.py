"""`lockgate client run`: from the directories to the last task, and what is undone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import structlog

from lockgate import __version__
from lockgate.client import debug_log
from lockgate.client.event_log import EventLog
from lockgate.client.linux import sleep
from lockgate.client.linux.reset import reset
from lockgate.client.service.api import SOCKET_NAME, LocalApi
from lockgate.client.service.clock import Clock
from lockgate.client.service.dialer import Dialer
from lockgate.client.service.edge_process import EdgeProcess, living_edge
from lockgate.client.service.files import private_directory
from lockgate.client.service.hub import EdgeHub
from lockgate.client.service.network import TunnelNetwork
from lockgate.client.service.saved_session import SessionStore
from lockgate.client.service.service import ClientService, Parts
from lockgate.client.service.trust import KnownHosts, SystemRoots
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.errors import PeerError

log = structlog.get_logger("service")

LOCK_NAME = "service.lock"


def run(state_directory: Path, run_directory: Path, log_level: int = 3) -> None:
    """Runs the client service. SIGINT and `lockgate client stop` end tunnels and restore the machine; SIGTERM,
    as any other end, leaves tunnels running for the next service. Raises ProblemError when it cannot start."""
    os.umask(0o077)
    private_directory(state_directory, 0o700)
    private_directory(run_directory, 0o755)
    with _alone(state_directory):
        debug_log.configure(state_directory, log_level)
        asyncio.run(_main(state_directory, run_directory))


@contextlib.contextmanager
def _alone(state_directory: Path) -> Iterator[None]:
    """Two services would undo each other's work. The kernel frees the lock however we end."""
    with open(state_directory / LOCK_NAME, "w") as file:  # a descriptor is what is locked
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProblemError(
                Problem(
                    "already-running",
                    f"Another client service runs with {state_directory}.",
                    "Stop it first: lockgate client stop",
                )
            ) from None
        yield


async def _main(state_directory: Path, run_directory: Path) -> None:
    stopped = asyncio.Event()
    events = EventLog(state_directory)
    clock = Clock()
    store = SessionStore(state_directory, clock)
    hub = EdgeHub(EdgeProcess(run_directory, state_directory))
    hello = None
    if living_edge(run_directory) is not None:
        with contextlib.suppress(ProblemError, PeerError, OSError):
            hello = await hub.start()
    known = {saved.session for saved in store.load_all()}
    if hello is None or not any(state.session in known for state in hello.sessions):
        # Nobody uses what an earlier service may have left.
        for line in await asyncio.to_thread(reset, state_directory):
            log.info("undone", what=line)
    if hello is None:
        hello = await hub.start()
    network = TunnelNetwork(hub, state_directory)
    dialer = Dialer(hub, KnownHosts(state_directory), SystemRoots())
    service = ClientService(Parts(hub, dialer, network, store, events, clock), stopped.set)
    api = LocalApi(run_directory / SOCKET_NAME, service.operations())

    def interrupted() -> None:
        service.keep_tunnels = False
        stopped.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)  # a restart or an upgrade
    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        async with asyncio.TaskGroup() as tasks:
            service.attach_to(tasks, api)
            tasks.create_task(hub.run(), name="edge")
            await service.take_up({state.session: state for state in hello.sessions})
            tasks.create_task(api.run(), name="local API")
            tasks.create_task(service.watch_machine(), name="network")
            tasks.create_task(_watch_sleep(service), name="sleep")
            events.write(1, version=__version__)
            log.info("started", version=__version__)
            await stopped.wait()
            log.info("stopping", keep=service.keep_tunnels)
            if service.keep_tunnels:
                # Callers are cut off now: that is no wish of theirs to end their connections.
                api.on_leave(lambda caller: None)
            else:
                await service.end_all()
            raise _Stop
    except* _Stop:
        pass
    finally:
        if service.keep_tunnels:
            hub.leave()
        else:
            await hub.end()
        events.write(2)


class _Stop(Exception):
    """The service is to end."""


async def _watch_sleep(service: ClientService) -> None:
    async with contextlib.aclosing(sleep.sleep_events()) as events:
        async for event in events:
            if isinstance(event, sleep.Sleep):
                service.machine_sleeps()
            else:
                service.machine_wakes()
