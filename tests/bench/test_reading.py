"""What other programs print, as figures; and the search for a rate."""

from __future__ import annotations

import json

import pytest

from tests.bench import datagrams, latency, traffic
from tests.bench.datagrams import Trial, search
from tests.bench.plot import with_dark_colours
from tests.lab import LabError


def test_a_report_of_iperf3() -> None:
    report = {"end": {"sum_received": {"bytes": 500, "bits_per_second": 2.5e9}, "sum_sent": {"bytes": 900}}}
    assert traffic.parse(json.dumps(report)) == traffic.Transfer(500, 2.5)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "no result"),
        ('{"error": "unable to connect"}', "unable to connect"),
        ('{"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}', "nothing arrived"),
    ],
)
def test_no_report_is_an_error(output: str, reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        traffic.parse(output)


def answers(*milliseconds: float) -> str:
    lines = [
        f"[1700000000.{n:06}] 64 bytes from 10.77.0.10: icmp_seq={n} ttl=62 time={time:g} ms"
        for n, time in enumerate(milliseconds, 1)
    ]
    return "PING 10.77.0.10 (10.77.0.10) 56(84) bytes of data.\n" + "\n".join(lines) + "\n"


def test_median_and_99th_percentile_of_ping() -> None:
    found = latency.summary(answers(*range(1, 201)), 200)
    assert (found.median, found.p99) == (100.5, 198)
    # A time in microseconds has three digits behind the point.
    assert latency.summary(answers(0.042), 1) == latency.Latency(0.042, 0.042)


def test_few_answers_are_no_latency() -> None:
    refused = answers(1) + "[1700000001.000001] From 198.51.100.1 icmp_seq=9 Destination Net Unreachable\n"
    with pytest.raises(LabError, match="1 of 3 answered"):
        latency.summary(refused, 3)


class Pipe:
    """Carries `limit` a second; asked `hiccups` times it fails once more than it should."""

    def __init__(self, limit: float, *, fastest: float = 1e9, hiccups: int = 0) -> None:
        self.limit, self.fastest, self.hiccups = limit, fastest, hiccups
        self.asked: list[float] = []

    def attempt(self, rate: float) -> Trial:
        self.asked.append(rate)
        if self.hiccups:
            self.hiccups -= 1
            return Trial(rate, 0.5)
        sent = min(rate, self.fastest)
        return Trial(sent, max(0.0, 1 - self.limit / sent))


@pytest.mark.parametrize("limit", [1_200, 15_999, 16_000, 16_001, 100_000, 333_333])
@pytest.mark.parametrize("hiccups", [0, 1])
def test_the_search_comes_close_from_below(limit: float, hiccups: int) -> None:
    pipe = Pipe(limit, hiccups=hiccups)
    found = search(pipe.attempt, 16_000, 5)
    assert found is not None
    assert limit * 0.97 <= found <= limit * (1 + 2 * datagrams.TOLERATED)
    assert len(pipe.asked) < 30


def test_the_search_ends_where_the_sender_or_everything_fails() -> None:
    assert search(Pipe(1e9, fastest=50_000).attempt, 16_000, 4) == 50_000
    assert search(Pipe(1e-3).attempt, 16_000, 4) is None
    assert search(Pipe(1e9).attempt, 16_000, 4) == pytest.approx(2e6, rel=0.3)


def test_a_drawing_gets_colours_for_dark_screens() -> None:
    drawing = '<svg><defs></defs><path style="fill: #ffffff"/><path style="stroke: #1f2328"/></svg>'
    changed = with_dark_colours(drawing)
    assert "prefers-color-scheme: dark" in changed
    assert '[style*="fill: #ffffff"]{fill:#0d1117 !important}' in changed
    assert changed.endswith(drawing.partition("<defs>")[2])
