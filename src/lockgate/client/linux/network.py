"""Puts a plan in place and takes it back, whole: firewall, device, routes, rules, in an order without holes.

    plan = make_plan(config, await read_facts(tun.name, tun.index, peers))
    await apply(plan, journal)          # again with a new plan whenever the network changed
    for finding in await verify(plan):  # monitor: when it tells of news, and now and then
        …                               # `apply` again puts back what is mendable
    await remove(journal)               # then close the TUN

Names are the driver's of `dns`; the journal's key "dns" is theirs. One change runs at a time, in a thread, and
once begun runs to its end, even if the caller is cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from lockgate.client.linux import firewall, routes, sysctl
from lockgate.client.linux.journal import Journal
from lockgate.client.network_plan import NetworkPlan
from lockgate.model.problem import Problem, ProblemError

KEY = "network"
"""In the journal: {"tun": name, "index": …, "boot": id of this start of the machine, "sysctl": {file: content}}."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_one_at_a_time = threading.Lock()


async def apply(plan: NetworkPlan, journal: Journal) -> None:
    """Put the plan in place, over whatever plan was there. Does no harm if all is there.

    Journal first; then the firewall, so that nothing leaks while routes change; then device, routes, rules.
    If the first one fails, all of it is taken back. The device gets the plan's MTU, whatever `set_mtu` said.

    raises: ProblemError firewall-missing, disk-full, state-not-writable (nothing was changed); tun-gone,
            network-refused, firewall-refused.
    """
    await asyncio.to_thread(_apply, plan, journal)


async def remove(journal: Journal) -> list[str]:
    """Take everything back but device and DNS. Twice does no harm. returns: what was there, in words.

    raises: ProblemError with everything tried.
    """
    return await asyncio.to_thread(remove_now, journal)


async def set_mtu(plan: NetworkPlan, mtu: int) -> None:
    """A smaller MTU that the path turned out to have; never above the plan's. raises: as `apply`."""
    await asyncio.to_thread(routes.set_mtu, plan.tun_index, min(mtu, plan.mtu))


def _apply(plan: NetworkPlan, journal: Journal) -> None:
    with _one_at_a_time:
        firewall.require()
        before = journal.get(KEY)
        wanted = sysctl.needed()
        # What the first one found is what the machine gets back.
        saved = {**sysctl.to_save(wanted), **_part(before, "sysctl")}
        device = {"tun": plan.tun_name, "index": plan.tun_index, "boot": boot_id()}
        journal.put(KEY, {**device, "sysctl": saved})
        try:
            firewall.apply(plan)
            sysctl.apply(wanted)
            routes.apply(plan)
        except BaseException:
            if before is None:
                _undo(journal)
            raise


def remove_now(journal: Journal) -> list[str]:
    """`remove`, in the calling thread."""
    with _one_at_a_time:
        found, problems = _undo(journal)
    if problems:
        raise ProblemError(problems[0])
    return found


def boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _undo(journal: Journal) -> tuple[list[str], list[Problem]]:
    """The firewall last: routes that are half gone let nothing out. Each step is tried, whatever became of others."""
    found: list[str] = []
    problems: list[Problem] = []
    entry = journal.get(KEY)
    saved = _part(entry, "sysctl")
    steps: list[Callable[[], list[str]]] = [
        routes.remove,
        lambda: ["the firewall table"] if firewall.remove() else [],
        lambda: sysctl.restore(saved),
    ]
    for step in steps:
        try:
            found += step()
        except ProblemError as error:
            # Where nothing was put in place there is no table either, and no need of the program.
            if entry is not None or error.problem.code != "firewall-missing":
                problems.append(error.problem)
    if not problems:
        journal.forget(KEY)
    return found, problems


def _part(entry: object, name: str) -> dict[str, object]:
    """A value out of the journal, which somebody may have edited."""
    value = entry.get(name) if isinstance(entry, dict) else None
    return value if isinstance(value, dict) else {}
