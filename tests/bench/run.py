"""One run of the benchmark: which peers there are, and rounds over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import machine, rows, signins, tunnels
from tests.bench.load import LoadTool, binary
from tests.bench.measure import Measurer
from tests.bench.ocserv import Ocserv
from tests.bench.openvpn import OpenVpn
from tests.bench.prototype import prototype
from tests.bench.results import Results
from tests.bench.way import Peer, Scale
from tests.bench.wireguard import current, packaged, wireguard
from tests.lab import Gateway, Lab, LabError
from tests.lab.topology import GATEWAY4

GROUPS = ("lockgate", "openconnect", "wireguard", "openvpn", "ocserv", "sign-ins")
"""What may be chosen: our client, openconnect at our gateway, the other peers, sign-ins. Raw veth is always there."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to measure. groups: some of `GROUPS`. sessions: how many idle ones the memory figure holds; 0 for none."""

    groups: tuple[str, ...]
    rounds: int
    scale: Scale
    prototype: Path | None = None
    sign_ins: int = 96
    sessions: int = signins.SESSIONS


@dataclass(frozen=True, slots=True)
class _Stage:
    """Peers that need the same thing running. more: what else is measured while it runs, given the last round or not."""

    name: str
    running: Callable[[], AbstractContextManager[object]]
    peers: tuple[Peer, ...]
    more: Callable[[bool], None] = lambda _last: None


class Bench:
    """Measures into `results`; `remarks` says what was left out."""

    def __init__(self, lab: Lab, choice: Choice, results: Results) -> None:
        self.lab, self.choice, self.results = lab, choice, results
        self.remarks: list[str] = []
        self.loads: list[float] = []
        self._measurer = Measurer(lab, results, choice.scale, binary("lockgate-path"))
        self._load = binary()
        self._stages = list(self._make())

    def run(self) -> None:
        for number in range(1, self.choice.rounds + 1):
            self.loads.append(machine.load_average())
            print(
                f"round {number} of {self.choice.rounds} (load average {self.loads[-1]:.1f});"
                " TCP up, down, four streams up, down; datagrams; ping under load",
                flush=True,
            )
            for stage in self._stages:
                self._run(stage, last=number == self.choice.rounds)

    def _run(self, stage: _Stage, *, last: bool) -> None:
        with self.results.attempt(stage.name), stage.running():
            for peer in stage.peers:
                self._measurer.measure(peer)
            stage.more(last)
        # Their logs are in the figures already; error messages are to be short.
        for host in self.lab.hosts.values():
            host.forget_ended()

    # Stages

    def _make(self) -> Iterator[_Stage]:
        groups = self.choice.groups
        yield _Stage("raw", nullcontext, (Peer(rows.RAW, partial(tunnels.raw, self.lab)),))
        if {"lockgate", "openconnect", "sign-ins"} & set(groups):
            yield from self._light()
        if "lockgate" in groups:
            yield from self._cbc()
        if {"openconnect", "sign-ins"} & set(groups):
            yield from self._default()
        if "wireguard" in groups:
            yield from self._wireguard()
        if "openvpn" in groups:
            with self.results.attempt("openvpn"):
                server = OpenVpn(self.lab)
                yield _Stage("openvpn", nullcontext, (Peer(rows.OPENVPN, server.way, roams=True),))
        if "ocserv" in groups:
            with self.results.attempt("ocserv"):
                ocserv = Ocserv(self.lab.gateway)
                yield _Stage("ocserv", nullcontext, tuple(self._ocserv(ocserv)))
        if program := self.choice.prototype:
            ciphers = ((rows.PROTOTYPE_GCM, "gcm128"), (rows.PROTOTYPE_CBC, "cbcsha1"))
            peers = [Peer(row, partial(prototype, self.lab, program, cipher)) for row, cipher in ciphers]
            yield _Stage("prototype", nullcontext, tuple(peers))
        else:
            self.remarks.append("no prototype in this run (--prototype PATH)")

    def _light(self) -> Iterator[_Stage]:
        """Light suite for openconnect, cheap hash; our client negotiates its own suite."""
        with self.results.attempt("Lockgate, light suite"):
            gateway = self._gateway("light", signins.CHEAP, light=True)
            peers = []
            if "lockgate" in self.choice.groups:
                esp = Peer(rows.OWN_GCM, partial(self._own, gateway, esp=True, suite="gcm"), roams=True)
                peers += [
                    esp,
                    Peer(rows.OWN_TLS, partial(self._own, gateway, esp=False, suite=""), roams=True),
                ]
            if "openconnect" in self.choice.groups:
                way = partial(tunnels.lockgate, self.lab, gateway, "u0", esp=True)
                peers.append(Peer(rows.OC_128, way, brief=True))

            def more(last: bool) -> None:
                if "lockgate" in self.choice.groups:
                    self._measurer.fallback(esp)
                if "sign-ins" in self.choice.groups:
                    self._light_sign_ins(gateway, last=last)

            yield _Stage("Lockgate, light suite", partial(_running, gateway), tuple(peers), more)

    def _cbc(self) -> Iterator[_Stage]:
        """The same for our client, held to the suite openconnect has."""
        with self.results.attempt("Lockgate, CBC for its own client"):
            gateway = self._gateway("cbc", signins.CHEAP, light=True)
            gateway.set_config("esp", "own_cipher", '"off"')
            peer = Peer(rows.OWN_CBC, partial(self._own, gateway, esp=True, suite="cbc"), roams=True)
            yield _Stage("Lockgate, CBC for its own client", partial(_running, gateway), (peer,))

    def _default(self) -> Iterator[_Stage]:
        """What `server init` gives: its suite for openconnect, and its password hash."""
        with self.results.attempt("Lockgate, default suite"):
            gateway = self._gateway("default", signins.REAL, light=False)
            peers = []
            if "openconnect" in self.choice.groups:
                for row, esp in ((rows.OC_256, True), (rows.OC_TLS, False)):
                    way = partial(tunnels.lockgate, self.lab, gateway, "u0", esp=esp)
                    peers.append(Peer(row, way, brief=True))

            def more(_last: bool) -> None:
                if "sign-ins" in self.choice.groups:
                    tool = self._tool(gateway)
                    signins.measure_sign_ins(gateway, tool, self.results, signins.REAL, self.choice.sign_ins)

            yield _Stage("Lockgate, default suite", partial(_running, gateway), tuple(peers), more)

    def _wireguard(self) -> Iterator[_Stage]:
        peers = []
        for row, program in ((rows.WIREGUARD, current()), (rows.WIREGUARD_OLD, packaged())):
            if program is None:
                self.remarks.append(f"{row}: no such program here, row left out (scripts/bench-peers)")
            else:
                peers.append(Peer(row, partial(wireguard, self.lab, program), roams=True))
        yield _Stage("wireguard", nullcontext, tuple(peers))

    def _ocserv(self, server: Ocserv) -> Iterator[Peer]:
        for row, dtls in ((rows.OCSERV_DTLS, True), (rows.OCSERV_TLS, False)):
            yield Peer(row, partial(tunnels.ocserv, self.lab, server, dtls=dtls))

    # Our gateways; one of them runs at a time

    def _gateway(self, name: str, cost: signins.Hash, *, light: bool) -> Gateway:
        gateway = Gateway(self.lab.gateway, name)
        # Pools that hold the idle sessions of the memory figure.
        gateway.initialise(listen=[f"{GATEWAY4}:443"], pools=["10.88.0.0/16", "fd88::/112"])
        signins.prepare(gateway, cost)
        if light:
            gateway.set_config("esp", "cipher", '"aes-128-cbc"')
            gateway.set_config("esp", "hmac", '"sha1"')
        return gateway

    def _own(self, gateway: Gateway, *, esp: bool, suite: str) -> AbstractContextManager[tunnels.Way]:
        return tunnels.own(self.lab, gateway, "u0", esp=esp, suite=suite)

    def _light_sign_ins(self, gateway: Gateway, *, last: bool) -> None:
        tool, results, count = self._tool(gateway), self.results, self.choice.sign_ins
        signins.measure_sign_ins(gateway, tool, results, signins.CHEAP, 3 * count)
        signins.measure_resumptions(gateway, tool, results, 6 * count)
        signins.measure_one_resumption(tool, results)
        if last and self.choice.sessions:
            signins.measure_memory(gateway, tool, results, self.choice.sessions)

    def _tool(self, gateway: Gateway) -> LoadTool:
        return LoadTool(self.lab.client, gateway.ca_file, program=self._load)


@contextmanager
def _running(gateway: Gateway) -> Iterator[None]:
    try:
        gateway.start()
        yield
    finally:
        if gateway.program is not None and gateway.stop() not in (0, None):
            raise LabError(f"the gateway ended badly\n{gateway.program.tail()}")
