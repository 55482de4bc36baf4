"""What may stand in the repository: pinned dependencies without addresses, no traces of one machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = sorted((REPOSITORY / "requirements").glob("*.txt"))


def _tracked() -> list[Path]:
    """Files git knows, and new ones it would take."""
    listing = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={REPOSITORY}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    return [path for name in listing.split(b"\0") if name and (path := REPOSITORY / name.decode()).is_file()]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_file_pins_every_package_by_hash_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"[a-z+]+://|--(index|extra-index|find-links|trusted-host)|@ file:", text)
    entries = re.split(r"\n(?=[a-zA-Z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text))
    for entry in entries:
        name = entry.split()[0]
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+", name), f"not pinned: {name}"
        assert "--hash=sha256:" in entry, f"no hash: {name}"


def test_lock_files_agree() -> None:
    pins = {lock.stem: set(re.findall(r"(?m)^(\S+==\S+)", lock.read_text())) for lock in LOCKS}
    assert pins["server"] <= pins["dev"]


def test_the_system_packages_say_how_to_check_for_them() -> None:
    for line in (REPOSITORY / "scripts/system-packages.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            group, _package, check = line.split(None, 2)
            assert group in ("build", "lab", "bench")
            assert check


# Other people's product names are not ours to use, and nothing here depends on where somebody's copy lies.
# Written in pieces, so that this file does not hold them.
FORBIDDEN = [
    ("Pulse " + "Secure", "a vendor's product name"),
    ("Iv" + "anti", "a vendor's name"),
    ("/wo" + "rk/", "a path of one machine"),
    ("/ro" + "ot/", "a path of one machine"),
    ("/tmp/" + "plan", "a path of one machine"),
    ("pypi" + ".org", "an index's address"),
    ("python" + "hosted.org", "an index's address"),
    ("Co-Authored" + "-By", "belongs in no file"),
]
# Cargo.lock's format needs the registry's name; patterns that tests keep out of other files are not uses of them.
_EXEMPT = {"Cargo.lock"}


def test_no_file_holds_what_it_must_not() -> None:
    found = []
    for path in _tracked():
        if path.name in _EXEMPT:
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [
            f"{path.relative_to(REPOSITORY)}: {words!r} ({why})"
            for words, why in FORBIDDEN
            if words.lower() in text.lower()
        ]
    assert not found, "\n".join(found)


def test_no_file_is_large() -> None:
    """Captures, builds and test data of megabytes are made, not kept."""
    large = [f"{path.relative_to(REPOSITORY)}" for path in _tracked() if path.stat().st_size > 1_000_000]
    assert not large, large
