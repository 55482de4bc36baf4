"""Every recorded conversation goes through the core again, in memory."""

from pathlib import Path

import pytest

from tests.transcripts.scenarios import SCENARIOS
from tests.transcripts.transcript import FOLDER, read, replay, write

FILES = sorted(FOLDER.glob("*.txt"))


def test_every_scenario_has_its_file() -> None:
    expected = {scenario.name for scenario in SCENARIOS} | {"captured-1", "captured-2"}
    assert {file.stem for file in FILES} == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_replay(file: Path) -> None:
    compared = 0
    for recorded, produced in replay(read(file.read_text())):
        assert produced == recorded
        compared += 1
    assert compared >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_reading_undoes_writing(file: Path) -> None:
    steps = read(file.read_text())
    assert read(write(steps, ["again"])) == steps
