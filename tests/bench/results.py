"""Figures of a run: samples by row and column, their medians, and what failed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.lab import LabError


@dataclass(slots=True)
class Results:
    """`add` collects samples; `median` is what is shown."""

    samples: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    failures: list[str] = field(default_factory=list)

    def add(self, row: str, column: str, value: float) -> None:
        self.samples[row][column].append(value)

    def median(self, row: str, column: str) -> float | None:
        values = self.samples.get(row, {}).get(column)
        return statistics.median(values) if values else None

    def ratio(self, row: str, other: str, column: str) -> float | None:
        mine, theirs = self.median(row, column), self.median(other, column)
        return mine / theirs if mine is not None and theirs else None

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Whatever fails inside is noted and costs no other row."""
        try:
            yield
        except (LabError, OSError, ValueError, KeyError, IndexError) as error:
            self.failures.append(f"{what}: {error}")
            print(f"  failed: {what}: {str(error).splitlines()[0]}", flush=True)

    def as_json(self) -> dict[str, Any]:
        rows = {
            row: {
                column: {"median": statistics.median(values), "samples": values}
                for column, values in columns.items()
            }
            for row, columns in self.samples.items()
        }
        return {"rows": rows, "failures": self.failures}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Results:
        """What `as_json` made of it."""
        results = cls(failures=list(saved["failures"]))
        for row, found in saved["rows"].items():
            for column, values in found.items():
                for value in values["samples"]:
                    results.add(row, column, value)
        return results
