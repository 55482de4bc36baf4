"""docs/conformance.md says of every requirement how far it is, and its tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# How many requirements each area has, numbered from 1.
AREAS = {
    "DEP": 14, "CLI": 8, "UI": 10, "CON": 17, "AUT": 8, "POL": 7, "HC": 7, "MIG": 7,
    "LOG": 4, "BRD": 5, "ZTA": 7, "MOB": 4, "SM": 5, "OPS": 4, "BEY": 10,
}  # fmt: skip
REQUIREMENTS = [f"{area}-{number}" for area, count in AREAS.items() for number in range(1, count + 1)]
STATUSES = {"built", "part", "not built", "different"}


def _rows() -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in (REPOSITORY / "docs/conformance.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[A-Z]+-\d+", cells[0]):
            assert len(cells) == 5, f"five cells wanted: {line}"
            assert cells[0] not in rows, f"{cells[0]} has two lines"
            rows[cells[0]] = cells[1:]
    return rows


def test_every_requirement_has_its_line_and_no_other_does() -> None:
    assert list(_rows()) == REQUIREMENTS


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_line(requirement: str) -> None:
    _subject, status, notes, tests = _rows()[requirement]
    assert status in STATUSES
    if status in ("part", "different"):
        assert notes, f"{requirement} is {status!r}: the notes must say what is missing or other"
    if status in ("built", "part"):
        assert tests, f"{requirement} is {status!r} but names no test"
    for test in re.findall(r"`([^`]+)`", tests):
        _must_exist(test)


def _must_exist(test: str) -> None:
    file, _, name = test.partition("::")
    path = REPOSITORY / file
    assert path.is_file(), f"there is no {file}"
    if name and path.suffix == ".py":
        functions = [
            node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
        ]
        assert name in functions, f"{file} has no {name}"
