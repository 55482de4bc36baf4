"""The benchmark's arithmetic and pages; its measurements run in `make bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.bench import columns, panels, rows, tables
from tests.bench.accounting import CpuMeter, pss_kib, rss_kib
from tests.bench.columns import DOWN, UP
from tests.bench.results import Results
from tests.lab import LabError

UP1, DOWN1 = columns.rate(UP, 1), columns.rate(DOWN, 1)


def filled() -> Results:
    results = Results()
    for row, rates in ((rows.RAW, (10, 30, 20)), (rows.OC_TLS, (4, 2, 3)), (rows.OCSERV_TLS, (1, 2, 3))):
        for rate in rates:
            results.add(row, UP1, rate)
    return results


def test_figures_are_medians_and_ratios_of_medians() -> None:
    results = filled()
    assert results.median(rows.RAW, UP1) == 20
    assert results.ratio(rows.OC_TLS, rows.OCSERV_TLS, UP1) == 1.5
    assert results.ratio(rows.OC_TLS, rows.OCSERV_TLS, DOWN1) is None


def test_a_failure_is_kept_with_its_row_and_costs_no_other() -> None:
    results = Results()
    with results.attempt("one"):
        raise LabError("broken\nwith details")
    with results.attempt("two"):
        results.add("two", "x", 1)
    assert results.failures == ["one: broken\nwith details"]
    assert results.median("two", "x") == 1


def test_saved_figures_come_back() -> None:
    results = filled()
    results.failures.append("one: broken")
    again = Results.from_json(json.loads(json.dumps(results.as_json())))
    assert again.as_json() == results.as_json()


def test_tables_have_a_line_for_what_was_measured_only() -> None:
    table = tables.speed(filled())
    assert [line[0] for line in table[1:]] == [rows.RAW, rows.OCSERV_TLS, rows.OC_TLS]
    assert table[3][1:] == ["3.00", "", "", "", "15.0 %", "", "", ""]
    assert tables.markdown(table).splitlines()[1].startswith("| --- | ---: |")
    assert tables.same_client(filled())[1] == [rows.OC_TLS, "1.50", "", "", ""]
    assert [table[0][0] for table in tables.all_of(filled())] == [
        "TCP, Gbit/s",
        "CPU seconds per 10⁹ bytes; MiB",
        "openconnect at our gateway",
    ]


def test_every_table_is_rectangular() -> None:
    results = filled()
    for row in rows.ORDER:
        for way in columns.WAYS:
            for streams in (1, 4):
                results.add(row, columns.rate(way, streams), 1)
                results.add(row, columns.rate(way, streams, bad=True), 1)
        results.add(row, columns.DATAGRAMS, 1)
        results.add(row, columns.CONNECT, 1)
    for table in tables.all_of(results):
        assert len({len(line) for line in table}) == 1, table[0]
        assert len(table) > 2


def test_the_picture_leaves_out_raw_veth_and_the_brief_rows() -> None:
    results = filled()
    results.add(rows.OWN_TLS, UP1, 6)
    first = panels.all_of(results)[0]
    assert list(first.bars) == [rows.OWN_TLS, rows.OCSERV_TLS]
    up, down = first.bars[rows.OWN_TLS]
    assert (up.value, up.floor, up.goal) == (6, pytest.approx(1.3 * 2), 2.5 * 2)
    assert down.value is None


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
    assert 1000 < pss_kib(mine) <= rss_kib(mine)
    assert rss_kib([2**22 + 1]) == 0
    with CpuMeter({"mine": lambda: mine, "gone": lambda: [2**22 + 1]}) as meter:
        before = os.times().user
        while os.times().user - before < 0.05:
            pass
    assert meter.used["mine"] > 0
    assert meter.used["gone"] == 0
