"""Stage one of `lockgate server run`: open what needs privileges, then give them up for good."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.tree import Configuration
from lockgate.server.config.values import Endpoint
from lockgate.server.datadir import ACCOUNT, DataDirectory, is_real_root
from lockgate.server.supervisor import confinement, descriptors, network
from lockgate.server.supervisor.plan import Plan

log = structlog.get_logger("supervisor")

# A large old database is brought up to date in that time; nobody else is kept waiting.
CURRENT_TIMEOUT = 600.0  # seconds
LONGEST_SOCKET_PATH = 107  # bytes; unix(7), without the final zero


def service_account() -> tuple[int, int] | None:
    """uid and gid that the processes change to, or None to stay who they are."""
    if not is_real_root():
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def prepare(directory: DataDirectory, account: tuple[int, int] | None) -> Plan:
    """Reads the configuration and opens everything that stage two inherits. Raises ProblemError.

    The tree that was checked travels on: nobody reads it a second time.
    """
    _check_length(directory)
    lock = _lock(directory)
    configuration = current_configuration(directory, account)
    tun, tun_takes_udp = descriptors.open_tun(configuration.network.tun_name)
    network.configure_tun(
        configuration.network.tun_name, configuration.network.mtu, configuration.network.pools
    )
    for setting in network.enable_forwarding(configuration.network.pools):
        log.info("setting-changed", setting=setting, why="packets are to be forwarded")
    listen = configuration.gateway.listen
    sockets = [descriptors.open_listener(endpoint, "gateway") for endpoint in listen]
    admin = [descriptors.open_listener(configuration.gateway.admin_listen, "administration")]
    udp = []
    if configuration.esp.enabled:
        addresses = dict.fromkeys(endpoint.address for endpoint in listen)
        udp = [descriptors.open_udp(Endpoint(address, configuration.esp.port)) for address in addresses]
    plan = Plan(
        configuration=configuration.model_dump_json(),
        tun=tun,
        tun_takes_udp=tun_takes_udp,
        gateway=[sock.detach() for sock in sockets],
        admin=[sock.detach() for sock in admin],
        udp=[sock.detach() for sock in udp],
        lock=lock,
    )
    for fd in plan.descriptors():
        os.set_inheritable(fd, True)
    return plan


def current_configuration(directory: DataDirectory, account: tuple[int, int] | None) -> Configuration:
    """The newest revision, read by a process that has the rights of the owner and no more. Raises ProblemError.

    The database belongs to an account that has less than this process: what comes out of it is parsed as a type
    and trusted no further.
    """
    command = confinement.python_command("lockgate.server.config.current", "--dir", str(directory.path))
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account[0], "group": account[1], "extra_groups": []}
    try:
        done = subprocess.run(  # an argument list of ours
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=CURRENT_TIMEOUT, **identity
        )
        document = json.loads(done.stdout)
        error = document.get("error")
        if done.returncode == 0:
            return Configuration.model_validate(document)
    except (OSError, ValueError, AttributeError, subprocess.TimeoutExpired):
        error = None
    if not isinstance(error, dict):
        raise ProblemError(
            Problem(
                code="configuration-unavailable",
                summary=f"The configuration in {directory.path} cannot be read.",
                fix="The messages above say why.",
            )
        )
    raise ProblemError(Problem.from_dict(error))


def become_supervisor(directory: DataDirectory, plan: Plan, account: tuple[int, int] | None) -> None:
    """Replaces this process by the unprivileged second stage. Does not return."""
    command = confinement.python_command(
        "lockgate.server.supervisor.supervise", "--dir", str(directory.path), "--plan-fd", str(plan.write())
    )
    arguments = confinement.confined(
        "supervisor",
        command,
        # Of the data directory: the sockets, the certificate with its key, which the edge is given, and
        # what the control plane has, because a child can only have what its parent has.
        read=[str(directory.tls), *confinement.control_reads(directory)],
        write=confinement.control_writes(directory),
        connect=confinement.control_connects(directory),
        account=account,
    )
    os.execv(arguments[0], arguments)  # noqa: S606  # an argument list of ours


def check_owner(directory: DataDirectory, account: tuple[int, int] | None) -> None:
    """Raises ProblemError when the processes could not use the data directory."""
    owner = directory.path.stat().st_uid
    uid = account[0] if account else os.geteuid()
    if owner != uid:
        name = ACCOUNT if account else str(uid)
        raise ProblemError(
            Problem(
                code="wrong-owner",
                summary=f"{directory.path} belongs to uid {owner}, but the server runs as {name} (uid {uid}).",
                fix=f"Hand it over with `chown -R {name}: {directory.path}`, or start as its owner.",
            )
        )


def check_reachable(directory: DataDirectory, account: tuple[int, int] | None) -> None:
    """Raises ProblemError when the service account could not read the program or the data.

    Found out here, by name, and not later as an import error of a process that has no way back.
    """
    if account is None:
        return
    for path in (directory.path, Path(confinement.edge_binary()), Path(confinement.__file__)):
        blocked = _first_closed_to_others(path.resolve(), account)
        if blocked is not None:
            raise ProblemError(
                Problem(
                    code="account-shut-out",
                    summary=f"The account {ACCOUNT} cannot enter {blocked}, which leads to {path}.",
                    fix=f"Open the folder for it (chmod o+x {blocked}), or keep program and data elsewhere, "
                    "for example in /opt/lockgate and /var/lib/lockgate.",
                )
            )


def _first_closed_to_others(path: Path, account: tuple[int, int]) -> Path | None:
    for folder in reversed(path.parents):
        status = folder.stat()
        if status.st_uid == account[0]:
            allowed = status.st_mode & 0o100
        elif status.st_gid == account[1]:
            allowed = status.st_mode & 0o010
        else:
            allowed = status.st_mode & 0o001
        if not allowed:
            return folder
    return None


def _check_length(directory: DataDirectory) -> None:
    longest = len(os.fsencode(directory.control_socket.absolute()))
    if longest > LONGEST_SOCKET_PATH:
        raise ProblemError(
            Problem(
                code="path-too-long",
                summary=f"The path of the data directory {directory.path} is {longest - LONGEST_SOCKET_PATH} "
                "bytes too long for the sockets in it.",
                fix="Use a shorter path.",
            )
        )


def _lock(directory: DataDirectory) -> int:
    """Holds the data directory for this server as long as the descriptor is open."""
    fd = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ProblemError(
            Problem(
                code="already-running",
                summary=f"A server is running with the data directory {directory.path}.",
                fix="Stop that one first; `lockgate server status` shows it.",
            )
        ) from None
    return fd
