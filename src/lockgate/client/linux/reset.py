"""Undoes everything that a tunnel changed on this machine, with nothing else running."""

from __future__ import annotations

from pathlib import Path

from lockgate.client.linux import network, routes
from lockgate.client.linux.journal import Journal
from lockgate.model.problem import Problem, ProblemError

DNS_KEY = "dns"
"""In the journal: what `dns.restore` needs."""


def reset(state_dir: Path) -> list[str]:
    """DNS, rules, routes, firewall, switches and a left-over device, in this order; twice does no harm.

    Rules, routes and firewall are found by our numbers and names, so a missing or damaged journal hides only
    DNS and switches. Blocks for up to some seconds; call it while no service runs. An edge that lived on keeps
    running, without its device.

    returns: what was undone, a line each; empty if there was nothing.
    raises:  ProblemError reset-incomplete, after everything was tried; its details say what was not undone.
    """
    done: list[str] = []
    failed: list[str] = []
    try:
        journal = Journal(state_dir)
    except ProblemError as error:
        failed.append(error.problem.summary)
        journal = Journal.nothing()
    with journal:
        if journal.damaged:
            done.append(f"{journal.path} was damaged and lies beside itself as journal.damaged")
        for step in (_restore_dns, _remove_network):
            try:
                done += step(journal)
            except ProblemError as error:
                failed.append(error.problem.text())
    if failed:
        raise ProblemError(
            Problem(
                "reset-incomplete",
                "Not everything that the client changed on this machine could be undone.",
                "Run `lockgate client reset` again as root; a restart of the machine undoes all but DNS.",
                tuple(failed),
            )
        )
    return done


def _restore_dns(journal: Journal) -> list[str]:
    saved = journal.get(DNS_KEY)
    if not isinstance(saved, dict):
        journal.forget(DNS_KEY)
        return []
    # Only now: it brings the drivers with it, and most resets have no use for them.
    from lockgate.client.linux import dns

    done = dns.restore(saved)
    journal.forget(DNS_KEY)
    return done


def _remove_network(journal: Journal) -> list[str]:
    devices = routes.our_devices() | _journaled_device(journal.get(network.KEY))
    done = network.remove_now(journal)
    for index in devices:
        name = routes.remove_device(index)
        if name is not None:
            done.append(f"the network device {name}")
    return done


def _journaled_device(entry: object) -> set[int]:
    """Its index, if it was made since the machine was started: before, it was another device's.

    By number, not by name: a gateway on the same machine may have taken the name since.
    """
    if not isinstance(entry, dict) or entry.get("boot") != network.boot_id():
        return set()
    index = entry.get("index")
    return {index} if isinstance(index, int) else set()
