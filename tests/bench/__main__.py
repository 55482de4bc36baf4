"""Command line of the benchmark: rounds over all peers, then tables, a picture, bench-out/ and the documentation."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

from tests.bench import machine, plot, tables
from tests.bench.results import Results
from tests.bench.run import GROUPS, Bench, Choice
from tests.bench.signins import SESSIONS
from tests.bench.way import QUICK, Scale
from tests.lab import Lab
from tests.lab.host import REPOSITORY

_PAGE = REPOSITORY / "docs" / "performance.md"
_PICTURE = _PAGE.with_suffix(".svg")
_OUTPUT = REPOSITORY / "bench-out"
_INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    if options.redraw:
        return _redraw(options.redraw)
    choice = _choice(options)
    facts = machine.facts() | {"date": datetime.date.today().isoformat()}
    facts["rounds"] = f"{choice.rounds}, {choice.scale.seconds} s a transfer"
    results, remarks, loads = Results(), [], []
    begun, interrupted = time.monotonic(), False
    try:
        with Lab() as lab:
            bench = Bench(lab, choice, results)
            remarks, loads = bench.remarks, bench.loads
            bench.run()
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted; what was measured until here:")
    took = time.monotonic() - begun
    found = tables.all_of(results)
    for table in found:
        print("\n" + tables.plain(table))
    print()
    for line in [*tables.not_judged(results), *remarks]:
        print(f"note: {line}")
    for failure in results.failures:
        print(f"FAILED {failure}\n")
    print(
        f"took {took / 60:.1f} minutes, load average before each round {', '.join(f'{x:.1f}' for x in loads)}"
    )
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
    _OUTPUT.mkdir(exist_ok=True)
    _save(stem, facts, loads, remarks, results)
    picture = _draw(results, facts, _OUTPUT / f"{stem}.svg")
    if options.write_docs and not interrupted:
        _write_docs(facts, found, remarks, picture)
    if interrupted:
        return _INTERRUPTED
    return 1 if results.failures else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, help="how often every peer is measured (default 3, with --quick 1)"
    )
    parser.add_argument("--seconds", type=int, default=3, help="length of one TCP transfer (default 3)")
    parser.add_argument("--quick", action="store_true", help="short measurements, to see that all works")
    parser.add_argument(
        "--only", action="append", choices=GROUPS, help="leave the others out; may be repeated"
    )
    parser.add_argument(
        "--prototype",
        type=Path,
        metavar="PATH",
        help="a bare forwarder to show the ceiling: see prototype.py",
    )
    parser.add_argument("--write-docs", action="store_true", help=f"put the results into docs/{_PAGE.name}")
    parser.add_argument(
        "--redraw", type=Path, metavar="JSON", help="only draw the picture of an earlier run's figures again"
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if not 1 <= options.rounds <= 50 or not 1 <= options.seconds <= 60:
        parser.error("--rounds is 1 to 50, --seconds 1 to 60")
    if options.prototype is not None:
        options.prototype = options.prototype.resolve()
        if not options.prototype.is_file():
            parser.error(f"--prototype: there is no {options.prototype}")
    return options


def _choice(options: argparse.Namespace) -> Choice:
    groups = tuple(options.only or GROUPS)
    if options.quick:
        return Choice(groups, options.rounds, QUICK, options.prototype, sign_ins=24, sessions=200)
    return Choice(groups, options.rounds, Scale(options.seconds), options.prototype, 96, SESSIONS)


def _save(stem: str, facts: dict[str, str], loads: list[float], remarks: list[str], results: Results) -> None:
    path = _OUTPUT / f"{stem}.json"
    everything = {"facts": facts, "load average": loads, "remarks": remarks, **results.as_json()}
    path.write_text(json.dumps(everything, indent=1) + "\n")
    print(f"figures: {path.relative_to(REPOSITORY)}")


def _draw(results: Results, facts: dict[str, str], path: Path) -> Path | None:
    try:
        plot.draw(results, facts, path)
    except ImportError as error:
        print(f"no picture: {error} (make bench installs it)")
        return None
    print(f"picture: {path}")
    return path


def _redraw(path: Path) -> int:
    everything = json.loads(path.read_text())
    return 0 if _draw(Results.from_json(everything), everything["facts"], path.with_suffix(".svg")) else 1


def _write_docs(
    facts: dict[str, str], found: list[tables.Table], remarks: list[str], picture: Path | None
) -> None:
    described = "Measured by `make bench`: " + "; ".join(f"{name} {value}" for name, value in facts.items())
    parts = [f"{described}."]
    if picture is not None:
        _PICTURE.write_text(picture.read_text())
        parts.append(f"![Lockgate beside its peers, the figures of the tables below]({_PICTURE.name})")
    parts += [tables.markdown(table) for table in found]
    parts += [f"Not in this run: {remark}." for remark in remarks]
    tables.write_into(_PAGE, "\n\n".join(parts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
