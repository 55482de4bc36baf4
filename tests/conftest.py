"""What all tests share. The tests need the lab: `make test` enters it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# No deadline: a test never asserts timing. No database: a run leaves nothing behind.
settings.register_profile("lockgate", deadline=None, database=None)
settings.load_profile("lockgate")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What one test makes of the process's logging is not the next one's."""
    yield
    structlog.reset_defaults()
