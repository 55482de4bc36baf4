"""Sign-ins and resumptions per second over each of the two stores: `python -m tests.lab.enter -- python -m tests.bench.stores`

Whole sign-ins of the load tool through edge and control plane, with a cheap password hash, so that the
store is what is measured. PostgreSQL runs on the same machine with its disk in earnest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.load import LoadTool
from tests.bench.results import Results
from tests.bench.signins import CHEAP, measure_resumptions, measure_sign_ins, prepare
from tests.lab import Gateway, Lab
from tests.lab.postgresql import PostgreSQL

POOLS = ["10.88.0.0/16", "fd88::/112"]
"""Addresses for every sign-in: those of ended sessions are not given again at once."""


def measure(kind: str, cluster: PostgreSQL, count: int) -> Results:
    """One gateway over that kind of store, in a lab of its own."""
    results = Results()
    with Lab() as lab:
        gateway = Gateway(lab.gateway).initialise(
            pools=POOLS, store=cluster.database() if kind == "postgresql" else None
        )
        prepare(gateway, CHEAP)
        gateway.start()
        load = LoadTool(lab.client, Path(gateway.ca_file))
        measure_sign_ins(gateway, load, results, CHEAP, count)
        measure_resumptions(gateway, load, results, count)
        gateway.stop()
    return results


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.stores", description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = {}
    with PostgreSQL(durable=True) as cluster:
        for kind in ("sqlite", "postgresql"):
            results = measure(kind, cluster, options.count)
            if results.failures:
                print("\n".join(results.failures), file=sys.stderr)
                return 1
            found[kind] = results
    if options.json:
        print(json.dumps({kind: results.as_json()["rows"] for kind, results in found.items()}, indent=2))
        return 0
    for kind, results in found.items():
        for row in results.samples:
            per_second, p99 = results.median(row, "per s"), results.median(row, "p99 ms")
            print(f"{kind:<12}{row:<40}{per_second:8.1f} per s, 99th percentile {p99:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
