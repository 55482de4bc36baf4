"""The golden transcripts are still what the installed openconnect does."""

import pytest

from tests.transcripts.record import check
from tests.transcripts.scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_openconnect_does_what_was_recorded(scenario: Scenario) -> None:
    check(scenario)
