"""The control plane process: all decisions of one server, no packet and no privilege.

Started by the supervisor with the configuration on standard input and two listening Unix sockets: HTTP
requests that the edge passes on, and the local API.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn
import uvloop

from lockgate.model.problem import ProblemError
from lockgate.server.audit import Audit
from lockgate.server.auth.service import SignIns
from lockgate.server.config.access import access_rules
from lockgate.server.config.load import parse_configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.gateway.service import GatewayService
from lockgate.server.gateway.settings import GatewaySettings
from lockgate.server.local_api import LocalApi
from lockgate.server.logs import configure_logs
from lockgate.server.operations import operations
from lockgate.server.sessions import Sessions
from lockgate.server.store import open_store
from lockgate.server.web.app import make_app

log = structlog.get_logger("control")

PR_SET_DUMPABLE = 4  # linux/prctl.h
KEEP_ALIVE = 75  # seconds an idle HTTP connection of the edge stays open


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: this process has its own order of stopping."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    directory: DataDirectory, content: bytes, http: socket.socket, api: socket.socket, started: float
) -> None:
    """Runs until SIGTERM or SIGINT. Raises ProblemError when configuration or store cannot be used.

    content: the configuration file that the supervisor started with. started: when that was.
    """
    configuration = parse_configuration(content, directory.config)
    configure_logs(configuration.log.level)
    store = await open_store(directory.database, upgrade=True)
    try:
        audit = Audit(store.audit)
        sessions = Sessions(store, configuration.sessions, configuration.network.pools, audit)
        sign_ins = SignIns(
            store=store,
            settings=configuration.sign_in,
            sessions=sessions,
            audit=audit,
            end_session=lambda session, cause: gateway.end(session, cause),
        )
        await sign_ins.start()
        gateway = GatewayService(
            edge_socket=directory.edge_socket,
            # Every start compiles the rules anew; a later start has a later revision.
            settings=GatewaySettings.compile(configuration, access_rules(configuration), int(time.time())),
            sessions=sessions,
            new_conversation=sign_ins.conversation,
        )
        web = _HttpServer(
            uvicorn.Config(
                make_app(gateway, sessions),
                http="httptools",
                loop="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=2,
            )
        )
        local = LocalApi(api, operations(gateway, store.users, directory, started))
        await _run_until_stopped(gateway, web, http, local)
        await sessions.flush()
        sign_ins.close()
    finally:
        await store.close()


async def _run_until_stopped(
    gateway: GatewayService, web: _HttpServer, http: socket.socket, local: LocalApi
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        work = [
            group.create_task(gateway.run(), name="gateway"),
            group.create_task(web.serve(sockets=[http]), name="http"),
            group.create_task(local.run(), name="local api"),
        ]
        log.info("control-ready")
        await stop.wait()
        web.should_exit = True
        for task in (work[0], work[2]):
            task.cancel()


def _keep_secrets_in() -> None:
    """No core dump, and no other process of this account may read this one's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="lockgate.server.control")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--http-fd", type=int, required=True)
    parser.add_argument("--api-fd", type=int, required=True)
    parser.add_argument("--started", type=float, required=True)
    arguments = parser.parse_args()
    _keep_secrets_in()
    configure_logs()
    http, api = (socket.socket(fileno=fd) for fd in (arguments.http_fd, arguments.api_fd))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            content = sys.stdin.buffer.read()
            runner.run(serve(DataDirectory(Path(arguments.dir)), content, http, api, arguments.started))
    except ProblemError as error:
        log.error("cannot-start", **error.problem.as_dict())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
