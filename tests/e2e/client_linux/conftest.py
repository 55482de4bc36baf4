from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.client_linux.place import Place
from tests.lab import Lab

_count = itertools.count(1)


@pytest.fixture
def place(lab: Lab) -> Iterator[Place]:
    """The client host with an agent on it; afterwards the host is as it was before."""
    place = Place(lab, lab.client.directory / f"state{next(_count)}")
    yield place
    place.close()
