"""The control plane process: all decisions of one server, no packet and no privilege.

Started by the supervisor with the configuration that the server was started with on standard input, and two
listening Unix sockets: HTTP requests that the edge passes on, and the local API. The configuration in force is
in the store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from lockgate.model.problem import ProblemError
from lockgate.server.chores import Chores
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.local_api import LocalApi
from lockgate.server.logs import configure_logs
from lockgate.server.operations import operations
from lockgate.server.parts import Parts
from lockgate.server.store import open_store

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

    content: the tree that the server was started with, as JSON. started: when that was.
    """
    start_tree = Configuration.model_validate(json.loads(content))
    configure_logs(start_tree.log.level)
    store = await open_store(directory, upgrade=True)
    try:
        parts = await Parts.make(directory, store, start_tree, started)
        await parts.sign_ins.start()
        await _run_until_stopped(parts, http, api)
        await parts.flush()
        parts.sign_ins.close()
    finally:
        await store.close()


async def _run_until_stopped(parts: Parts, http: socket.socket, api: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    chores = Chores()
    parts.add_chores(chores)
    async with asyncio.TaskGroup() as group:
        # Tunnels first: their clients wait, and the web application takes a second or more to import.
        work = [
            group.create_task(parts.gateway.run(), name="gateway"),
            group.create_task(parts.names.run(), name="names"),
            group.create_task(chores.run(), name="chores"),
            group.create_task(parts.syslog.run(), name="syslog"),
        ]
        app = await asyncio.to_thread(_make_app, parts)
        _spare_the_collector()
        web = _http_server(app)
        serving = group.create_task(web.serve(sockets=[http]), name="http")
        work.append(group.create_task(LocalApi(api, operations(parts, app)).run(), name="local api"))
        log.info("control-ready", revision=parts.in_force.revision)
        work.append(group.create_task(asyncio.to_thread(_warm_up), name="warm-up"))
        await stop.wait()
        web.should_exit = True
        await serving
        for task in work:
            task.cancel()


def _make_app(parts: Parts) -> ASGIApp:
    from lockgate.server.web.app import make_app

    return make_app(parts.services)


def _warm_up() -> None:
    from lockgate.server.web.console.ask import compile_templates

    compile_templates()


def _http_server(app: ASGIApp) -> _HttpServer:
    return _HttpServer(
        uvicorn.Config(
            app,
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


def _spare_the_collector() -> None:
    """What is there now stays: the garbage collector need not look at it again.

    Every look at everything stops all threads, for a third of a second with 2,000 roles and rules; one is to
    come after hundreds of millions of new objects, not after every commit. Most garbage has no cycles, and
    cycles that are young are found as before.
    """
    gc.freeze()
    gc.set_threshold(10_000, 50, 1000)


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
