"""The benchmark's arithmetic and pages; its measurements run in `make bench`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench import tables, traffic, tunnels
from tests.bench.accounting import CpuMeter, pss_kib
from tests.bench.results import Results
from tests.lab import LabError


def filled() -> Results:
    results = Results()
    for row, rates in (
        (tunnels.RAW, (10, 30, 20)),
        (tunnels.TLS, (4, 2, 3)),
        (tunnels.OCSERV_TLS, (1, 2, 3)),
    ):
        for rate in rates:
            results.add(row, traffic.UP, rate)
    return results


def test_figures_are_medians_and_ratios_of_medians() -> None:
    results = filled()
    assert results.median(tunnels.RAW, traffic.UP) == 20
    assert results.ratio(tunnels.TLS, tunnels.OCSERV_TLS, traffic.UP) == 1.5
    assert results.ratio(tunnels.TLS, tunnels.OCSERV_TLS, traffic.DOWN) is None


def test_a_failure_is_kept_with_its_row_and_costs_no_other() -> None:
    results = Results()
    with results.attempt("one"):
        raise LabError("broken\nwith details")
    with results.attempt("two"):
        results.add("two", "x", 1)
    assert results.failures == ["one: broken\nwith details"]
    assert results.median("two", "x") == 1


def test_tables_have_a_line_for_what_was_measured_only() -> None:
    table = tables.speed(filled())
    assert [line[0] for line in table[1:]] == [tunnels.RAW, tunnels.TLS, tunnels.OCSERV_TLS]
    assert table[2][1:7] == ["3.00", "", "15.0 %", "", "1.50", ""]
    assert len({len(line) for line in table}) == 1
    assert tables.markdown(table).splitlines()[1].startswith("| --- | ---: |")


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    tables.write_into(page, "first")
    page.write_text(page.read_text() + "\nremarks\n")
    tables.write_into(page, "second")
    text = page.read_text()
    assert "second" in text
    assert "first" not in text
    assert text.endswith("\nremarks\n")
    page.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        tables.write_into(page, "third")


def test_a_process_has_memory_and_uses_time() -> None:
    mine = [os.getpid()]
    assert pss_kib(mine) > 1000
    with CpuMeter({"mine": lambda: mine, "gone": lambda: [2**22 + 1]}) as meter:
        before = os.times().user
        while os.times().user - before < 0.05:
            pass
    assert meter.used["mine"] > 0
    assert meter.used["gone"] == 0
