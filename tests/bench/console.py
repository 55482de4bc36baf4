"""`python -m tests.bench.console`, inside the lab: a gateway with thousands of sessions, seen by its administrators.

Opens the sessions through the edge with `lockgate-load`, among a configuration of thousands of roles and rules, and
measures: pages of the console and the API (`browser`), how long a committed change takes to stop the packets of the
ten sessions that it is about, and what it costs the others. Times of different processes are of the machine's
monotonic clock, which all read alike. Prints tables and writes bench-out/console-….json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import machine, signins
from tests.bench.accounting import CpuMeter, pss_kib
from tests.bench.load import Holding, LoadTool
from tests.bench.tunnels import control_of, edge_of
from tests.lab import Gateway, Lab, LabError, wait_for
from tests.lab.gateway import PASSWORD
from tests.lab.host import REPOSITORY
from tests.lab.topology import GATEWAY4, GATEWAY_NAME, INTRANET4

WATCHED = 10
"""Sessions that a change is about."""
EVERY, QUIET = 10, 500
"""Milliseconds between the echoes of a watched session, and without an answer until it counts as cut off."""
TRICKLE = 30_000
"""Milliseconds between the echoes of each of the others."""
IDLE = 5.0
"""Seconds of CPU time to compare with, before each change."""
USERS = 200
RULE = "access_control/watched"


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change, seconds. commit: until the command had its answer. last: until the last echo was
    answered (or the first again), by the slowest of the sessions. control, edge: CPU time beyond that of an idle
    gateway, in the same time."""

    commit: float
    last: float
    control: float
    edge: float


class Subject:
    """The gateway, what it is configured with, and the sessions on it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.gateway = Gateway(lab.gateway, "console")

    def prepare(self, objects: int, sessions: int) -> float:
        """Configuration and users; returns the seconds of the commit of all objects."""
        gateway = self.gateway
        gateway.initialise(listen=[f"{GATEWAY4}:443"], pools=["10.88.0.0/16", "fd88::/112"])
        signins.prepare(gateway, signins.CHEAP)
        gateway.set_config("sessions", "max_per_user", str(sessions))
        gateway.start()
        more = [f"u{number}" for number in range(signins.USERS, USERS)]
        for name in [*more, *(f"w{number}" for number in range(WATCHED))]:
            gateway.rest(
                "POST", "/users", body={"server": "System Local", "name": name, "password": PASSWORD}
            )
        edits = configuration(gateway.rest("GET", "/config")["value"], objects)
        begun = time.monotonic()
        gateway.commit(*edits, reason="thousands of objects")
        return time.monotonic() - begun

    def allow(self, action: str) -> list[dict[str, Any]]:
        return [{"op": "set", "path": f"{RULE}/action", "value": action}]


def configuration(tree: Mapping[str, Any], objects: int) -> list[dict[str, Any]]:
    """Edits that make half as many roles and half as many access rules, one of each for every user of the load
    and one rule that only the watched sessions have."""
    roles = [{"name": f"Role {number}"} for number in range(objects // 2)]
    rules = [
        {
            "name": f"Rule {number}",
            "action": "allow",
            "to": [f"10.{number // 250 + 100}.{number % 250}.0/24"],
            "applies": {"to": "selected", "roles": [f"Role {number}"]},
        }
        for number in range(objects // 2)
    ]
    mapped = [
        {
            "name": f"u{number}",
            "condition": {"kind": "user", "values": [f"u{number}"]},
            "roles": [f"Role {number}"],
        }
        for number in range(min(USERS, objects // 2))
    ]
    watched = {
        "name": "watched",
        "condition": {"kind": "user", "values": ["w*"]},
        "roles": ["Watched"],
        "stop": True,
    }
    own = {
        "name": RULE.partition("/")[2],
        "action": "allow",
        "to": ["10.77.0.0/16"],
        "applies": {"to": "selected", "roles": ["Watched"]},
    }
    [realm] = [realm for realm in tree["realms"] if realm["name"] == "Users"]
    [everything] = [rule for rule in tree["access_control"] if rule["name"] == "Initial open policy"]
    limited = {**everything, "applies": {"to": "except", "roles": ["Watched"]}}
    return [
        {"op": "set", "path": "roles", "value": [*tree["roles"], {"name": "Watched"}, *roles]},
        {"op": "set", "path": "access_control", "value": [own, *rules, limited]},
        {"op": "set", "path": "realms/Users/rules", "value": [watched, *mapped, *realm["rules"]]},
    ]


def told(log: str, word: str) -> dict[int, float]:
    """What the load tool said last about each session: "quiet" (time of the last answer) or "again"."""
    found = re.findall(rf"^{word} (\d+) ([\d.]+)$", log, re.MULTILINE)
    return {int(turn): float(at) for turn, at in found}


def change(subject: Subject, watched: Holding, action: str, word: str) -> Change:
    """Commits one change of the watched rule and waits until all of its sessions show it."""
    groups = {
        "control": lambda: control_of(subject.gateway),
        "edge": lambda: edge_of(subject.gateway),
    }
    with CpuMeter(groups) as idle:
        time.sleep(IDLE)
    before = len(watched.program.log())
    with CpuMeter(groups) as busy:
        begun = time.monotonic()
        subject.gateway.commit(*subject.allow(action), reason=f"{action} for ten sessions")
        commit = time.monotonic() - begun
        shown = wait_for(
            lambda: found if len(found := told(watched.program.log()[before:], word)) == WATCHED else None,
            f"all {WATCHED} watched sessions are {word}",
            deadline=60.0,
        )
        # As long as the time it is compared with, unless it took longer.
        time.sleep(max(0.0, IDLE - (time.monotonic() - begun)))
        took = time.monotonic() - begun
    share = took / IDLE
    return Change(
        commit=commit,
        last=max(shown.values()) - begun,
        control=busy.used["control"] - idle.used["control"] * share,
        edge=busy.used["edge"] - idle.used["edge"] * share,
    )


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Median and nearest-rank 99th percentile."""
    ranked = sorted(samples)
    return {
        "median": statistics.median(ranked),
        "p99": ranked[max(0, -(-len(ranked) * 99 // 100) - 1)],
        "worst": ranked[-1],
    }


def watch_pages(subject: Subject, times: int) -> dict[str, dict[str, dict[str, float]]]:
    """What `browser` measures, by kind and address."""
    gateway = subject.gateway
    token = gateway.rest("POST", "/tokens", body={"name": "bench", "scopes": ["*"], "owner": "admin"})[
        "token"
    ]
    line = gateway.host.python(
        "tests.bench.browser", "--port", str(gateway.admin_port), "--name", GATEWAY_NAME
    )
    line += ["--ca", str(gateway.ca_file), "--user", "admin", "--times", str(times)]
    secrets = json.dumps({"password": gateway.admin_password, "token": token})
    found = json.loads(gateway.host.run(line, input=secrets, deadline=900).stdout)
    return {
        kind: {address: percentiles(samples) for address, samples in addresses.items()}
        for kind, addresses in found.items()
    }


def measure(lab: Lab, options: argparse.Namespace) -> dict[str, Any]:
    subject = Subject(lab)
    report: dict[str, Any] = {"sessions": options.sessions, "objects": options.objects}
    report["commit of all objects, s"] = subject.prepare(options.objects, options.sessions)
    gateway = subject.gateway
    empty = pss_kib(edge_of(gateway)), pss_kib(control_of(gateway))
    tool = LoadTool(lab.client, gateway.ca_file)
    common = ["--parallel", "32", "--timeout", "60", "--ping", INTRANET4]
    begun = time.monotonic()
    crowd = tool.hold(
        options.sessions - WATCHED,
        86_400,
        *common,
        *("--users", str(USERS), "--every", str(TRICKLE)),
        deadline=1800,
    )
    report["all up, s"] = time.monotonic() - begun
    quick = ["--user-template", "w{}", "--every", str(EVERY), "--quiet", str(QUIET)]
    watched = tool.hold(WATCHED, 86_400, *common, *quick)
    if crowd.up + watched.up < options.sessions:
        raise LabError(f"only {crowd.up} + {watched.up} sessions came up\n{crowd.program.tail()}")
    print(f"{crowd.up + watched.up} sessions up after {report['all up, s']:.0f} s", flush=True)
    for name, before, pids in (
        ("edge", empty[0], edge_of(gateway)),
        ("control", empty[1], control_of(gateway)),
    ):
        report[f"{name}, MiB"] = pss_kib(pids) / 1024
        report[f"{name}, KiB a session"] = (pss_kib(pids) - before) / options.sessions
    report.update(watch_pages(subject, options.times))
    rounds: dict[str, list[Change]] = {"deny": [], "allow": []}
    for _ in range(options.rounds):
        rounds["deny"].append(change(subject, watched, "deny", "quiet"))
        rounds["allow"].append(change(subject, watched, "allow", "again"))
    report["changes"] = {
        action: {field: percentiles([getattr(each, field) for each in found]) for field in Change.__slots__}
        for action, found in rounds.items()
    }
    lost = {
        name: holding.release()["counts"]["lost"]
        for name, holding in (("crowd", crowd), ("watched", watched))
    }
    report["sessions lost"] = lost
    gateway.stop()
    return report


def show(report: Mapping[str, Any]) -> None:
    for name, value in report.items():
        if isinstance(value, float | int):
            print(f"{name:<28} {value:10.2f}")
    for kind in ("pages", "api"):
        print(f"\n{kind:<58} {'median':>9} {'p99':>9} ms")
        ranked = sorted(report[kind].items(), key=lambda entry: -entry[1]["p99"])
        for address, found in ranked:
            print(f"{address:<58} {found['median']:9.1f} {found['p99']:9.1f}")
    print(f"\n{'a change for ten sessions':<28} {'median':>9} {'worst':>9} s")
    for action, fields in report["changes"].items():
        for field, found in fields.items():
            print(f"{action + ', ' + field:<28} {found['median']:9.3f} {found['worst']:9.3f}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.console", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=2_000, help="roles and access rules together")
    parser.add_argument("--times", type=int, default=100, help="how often each page is asked for")
    parser.add_argument("--rounds", type=int, default=5, help="changes there and back")
    options = parser.parse_args(arguments)
    if options.sessions <= WATCHED:
        parser.error(f"--sessions must be more than {WATCHED}")
    with Lab() as lab:
        report = measure(lab, options)
    show(report)
    document = {"facts": machine.facts() | {"date": datetime.date.today().isoformat()}, **report}
    output = REPOSITORY / "bench-out"
    output.mkdir(exist_ok=True)
    path = output / f"console-{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nfigures: {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
