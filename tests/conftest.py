"""What all tests share. The tests need the lab: `make test` enters it."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadline: a test never asserts timing. No database: a run leaves nothing behind.
settings.register_profile("lockgate", deadline=None, database=None)
settings.load_profile("lockgate")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
