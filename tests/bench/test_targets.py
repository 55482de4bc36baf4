"""Floors and goals: against the right peer of the same run, and by how much."""

from __future__ import annotations

import pytest

from tests.bench import columns, rows, signins, tables, targets
from tests.bench.columns import UP
from tests.bench.results import Results
from tests.bench.targets import TARGETS, judge

UP1 = columns.rate(UP, 1)


def target(area: str) -> targets.Target:
    return next(target for target in TARGETS if target.area == area)


def results_with(**rates: float) -> Results:
    results = Results()
    for name, rate in rates.items():
        results.add(getattr(rows, name), UP1, rate)
    return results


def test_every_floor_counts() -> None:
    results = results_with(OWN_GCM=4.5, WIREGUARD=2, OPENVPN=1.25)
    wanted = target("ESP-GCM, one stream, Gbit/s up")
    assert [(verdict.limit, verdict.reached) for verdict in judge(results, wanted, wanted.floor)] == [
        (3, True),
        (5, False),
    ]
    assert judge(results, wanted, wanted.floor)[1].margin == pytest.approx(-0.1)


def test_goals_are_beside_the_prototype_or_else_beside_another() -> None:
    wanted = target("ESP-GCM, one stream, Gbit/s up")
    without = results_with(OWN_GCM=4.6, WIREGUARD=2)
    (verdict,) = judge(without, wanted, wanted.goal, wanted.instead)
    assert (verdict.bound.beside, verdict.reached) == (rows.WIREGUARD, True)
    with_it = results_with(OWN_GCM=4.6, WIREGUARD=2, PROTOTYPE_GCM=6)
    (verdict,) = judge(with_it, wanted, wanted.goal, wanted.instead)
    assert (verdict.bound.beside, verdict.reached) == (rows.PROTOTYPE_GCM, False)


def test_less_is_better_where_it_costs() -> None:
    results = Results()
    results.add(rows.OWN_GCM, columns.cpu("gateway", UP), 1.0)
    wanted = target("ESP-GCM, gateway CPU s/GB up")
    (verdict,) = judge(results, wanted, wanted.floor)
    assert (verdict.reached, verdict.margin) == (True, 0.5)
    results.add(rows.OWN_GCM, columns.cpu("gateway", UP), 4.0)
    (verdict,) = judge(results, wanted, wanted.floor)
    assert (verdict.reached, verdict.margin) == (False, -0.25)


def test_memory_and_hash_are_worked_out_of_several_figures() -> None:
    results = Results()
    for name, before, each in (("edge", 10.0, 64.0), ("control", 80.0, 4.0)):
        results.add(signins.MEMORY, f"{name} MiB before", before)
        results.add(signins.MEMORY, f"{name} KiB/session", each)
    for name, used in (("edge", 1.0), ("control", 5.0), ("hash", 0.5)):
        results.add(signins.CHEAP.row, f"{name} CPU ms", used)
    for area, value in (
        ("gateway data plane with 1000 idle sessions, MiB", 72.5),
        ("gateway altogether with 300 idle sessions, MiB", 90 + 300 * 68 / 1024),
        ("a sign-in, server CPU without the hash, ms", 5.5),
    ):
        assert target(area).figure.of(results) == pytest.approx(value)


def test_the_list_says_what_was_reached_and_what_the_run_does_not_tell() -> None:
    results = results_with(OWN_GCM=4.5, WIREGUARD=2)
    head, line = tables.verdicts(results)
    assert head[0] == "Target"
    assert line == [
        "ESP-GCM, one stream, Gbit/s up",
        "4.500",
        "≥ 1.5 × wireguard-go = 3.00",
        "yes, +50 %",
        "≥ 2.3 × wireguard-go = 4.60",
        "NO, -2 %",
    ]
    missing, openvpn = tables.not_judged(results)
    assert "ping idle" in missing
    assert "ESP-GCM, one stream, Gbit/s up" not in missing
    assert "4 × openvpn" in openvpn


def test_every_target_has_its_own_name() -> None:
    names = [target.area for target in TARGETS]
    assert len(names) == len(set(names))
