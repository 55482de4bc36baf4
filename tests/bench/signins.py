"""Sign-ins and resumptions per second, what they cost, and memory per idle session."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench.accounting import CpuMeter, pss_kib
from tests.bench.load import LoadTool
from tests.bench.results import Results
from tests.bench.tunnels import control_of, edge_of
from tests.lab import Gateway, LabError

USERS = 4
PARALLEL = 16
SESSIONS = 1000
"""Idle sessions held for the memory figure."""

RESUME = "cookie resumption"
RESUME_ALONE = "cookie resumption, one at a time"
MEMORY = "idle sessions"


@dataclass(frozen=True, slots=True)
class Hash:
    """Cost of a password hash (argon2id): memory in KiB, passes, lanes."""

    memory: int
    passes: int
    lanes: int

    def __str__(self) -> str:
        size = f"{self.memory // 1024} MiB" if self.memory >= 1024 else f"{self.memory} KiB"
        return f"argon2id m={size} t={self.passes} p={self.lanes}"

    @property
    def row(self) -> str:
        return f"sign-in, {self}"


REAL = Hash(19456, 2, 1)
CHEAP = Hash(64, 1, 1)


def prepare(gateway: Gateway, cost: Hash) -> None:
    """Users u0 … with hashes of this cost, and limits that many sign-ins from one address do not reach."""
    for key, value in (("memory_kib", cost.memory), ("time_cost", cost.passes), ("parallelism", cost.lanes)):
        gateway.set_config("sign_in.argon2", key, str(value))
    gateway.set_config("sessions", "max_per_user", str(SESSIONS))
    for key in ("new_connections_per_second", "new_connections_burst"):
        gateway.set_config("limits", key, "1000000")
    for number in range(USERS):
        gateway.add_user(f"u{number}")


def hash_cpu(cost: Hash, times: int = 10) -> float:
    """CPU seconds of one hash, measured here with the library the gateway uses."""
    from argon2.low_level import Type, hash_secret_raw

    def once() -> None:
        hash_secret_raw(b"correct horse", bytes(16), cost.passes, cost.memory, cost.lanes, 32, Type.ID)

    once()
    before = time.process_time()
    for _ in range(times):
        once()
    return (time.process_time() - before) / times


def measure_sign_ins(gateway: Gateway, load: LoadTool, results: Results, cost: Hash, count: int) -> None:
    """Whole sign-ins, a logout after each."""
    with results.attempt(cost.row):
        _warm_up(load)
        with _meter(gateway) as meter:
            report = load.must_run("signin", "--count", str(count), *_many())
        results.add(cost.row, "hash CPU ms", hash_cpu(cost) * 1e3)
        _note(results, cost.row, report["per_second"], meter, count)
        results.add(cost.row, "p50 ms", report["latency_ms"]["tunnel up"]["p50"])
        results.add(cost.row, "p99 ms", report["latency_ms"]["tunnel up"]["p99"])


def measure_resumptions(gateway: Gateway, load: LoadTool, results: Results, count: int) -> None:
    with results.attempt(RESUME):
        _warm_up(load)
        with _meter(gateway) as meter:
            report = load.must_run("resume", "--count", str(count), *_many())
        # The sign-ins before the resumptions and the logouts after them are in the CPU time: few beside `count`.
        _note(results, RESUME, report["per_second"], meter, count)
        results.add(RESUME, "p50 ms", report["latency_ms"]["tunnel up"]["p50"])
        results.add(RESUME, "p99 ms", report["latency_ms"]["tunnel up"]["p99"])


def measure_one_resumption(load: LoadTool, results: Results) -> None:
    """How long one takes that has the gateway to itself."""
    with results.attempt(RESUME_ALONE):
        report = load.must_run("resume", "--count", "20", "--parallel", "1", "--users", "1")
        results.add(RESUME_ALONE, "per s", report["per_second"])
        for share in ("p50", "p99"):
            results.add(RESUME_ALONE, f"{share} ms", report["latency_ms"]["tunnel up"][share])


def measure_memory(gateway: Gateway, load: LoadTool, results: Results, sessions: int) -> None:
    """PSS of edge and control plane with the sessions, less that without any."""
    with results.attempt(MEMORY):
        _warm_up(load)
        before = pss_kib(edge_of(gateway)), pss_kib(control_of(gateway))
        holding = load.hold(sessions, 120, "--esp", *_many(), deadline=180)
        try:
            after = pss_kib(edge_of(gateway)), pss_kib(control_of(gateway))
        finally:
            report = holding.release()
        if holding.up < sessions:
            raise LabError(f"only {holding.up} of {sessions} sessions came up: {report['errors']}")
        results.add(MEMORY, "sessions", sessions)
        for name, first, last in zip(("edge", "control"), before, after, strict=True):
            results.add(MEMORY, f"{name} MiB before", first / 1024)
            results.add(MEMORY, f"{name} MiB", last / 1024)
            results.add(MEMORY, f"{name} KiB/session", (last - first) / sessions)


def _many() -> list[str]:
    return ["--parallel", str(PARALLEL), "--users", str(USERS)]


def _warm_up(load: LoadTool) -> None:
    """One sign-in of every user: imports and caches are filled, old hashes renewed."""
    load.must_run("signin", "--count", str(USERS), *_many())


def _meter(gateway: Gateway) -> CpuMeter:
    return CpuMeter({"edge": lambda: edge_of(gateway), "control": lambda: control_of(gateway)})


def _note(results: Results, row: str, rate: float, meter: CpuMeter, count: int) -> None:
    results.add(row, "per s", rate)
    for name, used in meter.used.items():
        results.add(row, f"{name} CPU ms", used / count * 1e3)
    print(f"  {row:<36} {rate:7.1f} a second", flush=True)
