"""Command line of the benchmark: rounds over all peers, then tables, bench-out/ and the documentation."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import machine, signins, tables, tunnels
from tests.bench.load import LoadTool, binary
from tests.bench.ocserv import Ocserv
from tests.bench.results import Results
from tests.lab import Gateway, Lab
from tests.lab.host import REPOSITORY
from tests.lab.topology import GATEWAY4

_PAGE = REPOSITORY / "docs" / "performance.md"
_OUTPUT = REPOSITORY / "bench-out"


class Bench:
    """One run in one lab. `lockgate` and `ocserv` say which of the two to measure beside raw veth."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.lab, self.options, self.results = lab, options, Results()
        self.ocserv: Ocserv | None = None
        self.default: Gateway | None = None
        self.light: Gateway | None = None
        if "ocserv" in options.only:
            with self.results.attempt("ocserv"):
                self.ocserv = Ocserv(lab.gateway)
        if "lockgate" in options.only:
            with self.results.attempt("Lockgate"):
                self.load = binary()
                # Default suite and hash; and the light suite with the cheap hash. One of them runs at a time.
                self.default = self._gateway("default", signins.REAL)
                self.light = self._gateway("light", signins.CHEAP)
                self.light.set_config("esp", "cipher", '"aes-128-cbc"')
                self.light.set_config("esp", "hmac", '"sha1"')

    def _gateway(self, name: str, cost: signins.Hash) -> Gateway:
        gateway = Gateway(self.lab.gateway, name)
        # Pools that hold the idle sessions of the memory figure.
        gateway.initialise(listen=[f"{GATEWAY4}:443"], pools=["10.88.0.0/16", "fd88::/112"])
        signins.prepare(gateway, cost)
        return gateway

    def round(self, number: int) -> None:
        print(
            f"round {number} of {self.options.rounds} (load average {machine.load_average():.1f})", flush=True
        )
        seconds = self.options.seconds
        lab, results = self.lab, self.results
        tunnels.measure(lab, results, tunnels.RAW, partial(tunnels.raw, lab), min(seconds, 3))
        if self.default:
            self._run_default(self.default, seconds)
        if self.light:
            self._run_light(self.light, seconds, last=number == self.options.rounds)
        if server := self.ocserv:
            for row, dtls in ((tunnels.OCSERV_DTLS, True), (tunnels.OCSERV_TLS, False)):
                opener = partial(tunnels.ocserv, lab, server, dtls=dtls)
                tunnels.measure(lab, results, row, opener, seconds)

    def _run_default(self, gateway: Gateway, seconds: int) -> None:
        lab = self.lab
        with self.results.attempt("Lockgate, default suite"):
            gateway.start()
            try:
                for row, esp in ((tunnels.ESP_256, True), (tunnels.TLS, False)):
                    opener = partial(tunnels.lockgate, lab, gateway, "u0", esp=esp)
                    tunnels.measure(lab, self.results, row, opener, seconds)
                count = 32 if self.options.quick else 96
                signins.measure_sign_ins(gateway, self._tool(gateway), self.results, signins.REAL, count)
            finally:
                gateway.stop()

    def _run_light(self, gateway: Gateway, seconds: int, *, last: bool) -> None:
        lab = self.lab
        with self.results.attempt("Lockgate, light suite"):
            gateway.start()
            try:
                opener = partial(tunnels.lockgate, lab, gateway, "u0", esp=True)
                tunnels.measure(lab, self.results, tunnels.ESP_128, opener, seconds)
                tool = self._tool(gateway)
                count = 100 if self.options.quick else 300
                signins.measure_sign_ins(gateway, tool, self.results, signins.CHEAP, count)
                signins.measure_resumptions(gateway, tool, self.results, 2 * count)
                if last:
                    signins.measure_memory(gateway, tool, self.results)
            finally:
                gateway.stop()

    def _tool(self, gateway: Gateway) -> LoadTool:
        return LoadTool(self.lab.client, gateway.ca_file, program=self.load)


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    facts = machine.facts() | {"date": datetime.date.today().isoformat()}
    with Lab() as lab:
        bench = Bench(lab, options)
        loads = []
        for number in range(1, options.rounds + 1):
            loads.append(machine.load_average())
            bench.round(number)
        results = bench.results
    facts["rounds"] = f"{options.rounds}, {options.seconds} s a stream"
    found = [tables.speed(results), tables.cpu(results)]
    if "lockgate" in options.only:
        found += [tables.sign_ins(results), tables.memory(results)]
    for table in found:
        print("\n" + tables.plain(table))
    print()
    for failure in results.failures:
        print(f"FAILED {failure}\n")
    _save({"facts": facts, "load average": loads, **results.as_json()})
    if options.write_docs:
        described = "Measured by `make bench`: " + "; ".join(
            f"{name} {value}" for name, value in facts.items()
        )
        tables.write_into(_PAGE, "\n\n".join([f"{described}.", *map(tables.markdown, found)]))
    return 1 if results.failures else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often every peer is measured (default 3)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one TCP stream (default 4)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 2 s streams, to see that all works"
    )
    parser.add_argument("--only", action="append", choices=["lockgate", "ocserv"], help="leave the other out")
    parser.add_argument("--write-docs", action="store_true", help=f"put the tables into docs/{_PAGE.name}")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 1, 2
    if not 1 <= options.rounds <= 50 or not 1 <= options.seconds <= 60:
        parser.error("--rounds is 1 to 50, --seconds 1 to 60")
    options.only = options.only or ["lockgate", "ocserv"]
    return options


def _save(everything: dict[str, Any]) -> None:
    _OUTPUT.mkdir(exist_ok=True)
    path: Path = _OUTPUT / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"figures: {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
