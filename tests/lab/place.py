"""Where the lab writes: a tmpfs that only programs inside it see."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.waiting import LabError

LAB_DIR = "LOCKGATE_LAB_DIR"
"""Environment variable with that directory. Set inside the lab and nowhere else."""


def lab_directory() -> Path:
    found = os.environ.get(LAB_DIR)
    if not found:
        raise LabError("not inside the lab: run this as `python -m tests.lab.enter -- COMMAND`")
    # Runners side by side build labs of their own.
    directory = Path(found) / os.environ.get("PYTEST_XDIST_WORKER", "")
    directory.mkdir(exist_ok=True)
    return directory
