"""The floors of the Python house: each package imports only what its floor allows, and here is why."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

_NO_IO = {
    **dict.fromkeys(
        ("socket", "socketserver", "ssl", "select", "selectors", "http", "urllib.request", "httpx2"),
        "bytes come in as arguments and go out as results; only then do client, server, test and fuzzer share it",
    ),
    **dict.fromkeys(
        (
            "os",
            "io",
            "pathlib",
            "tempfile",
            "shutil",
            "glob",
            "subprocess",
            "fcntl",
            "mmap",
            "sqlite3",
            "sqlalchemy",
        ),
        "files and processes belong to the shell around it; what is needed from them is an argument",
    ),
    **dict.fromkeys(
        ("asyncio", "anyio", "threading", "multiprocessing", "concurrent", "queue", "contextvars"),
        "the caller decides how things run at the same time; a core is called and returns",
    ),
    **dict.fromkeys(
        ("time", "sched", "signal"),
        "time is an argument (seconds on one monotonic clock), so that tests and replays own it",
    ),
    **dict.fromkeys(
        ("random", "secrets", "uuid"),
        "randomness is an argument, so that a recorded conversation replays exactly",
    ),
}
_NO_IO_CALLS = {
    "open": "a core opens no files",
    "print": "a core says what happened by what it returns",
    "input": "a core asks nobody",
}


@dataclass(frozen=True)
class Floor:
    """One package: which of the house it may import, and what else it may not."""

    package: str
    imports: tuple[str, ...]
    reason: str
    banned: dict[str, str]
    banned_calls: dict[str, str]
    third_party: tuple[str, ...] | None = None  # None: anything


FLOORS = [
    Floor(
        "lockgate.protocol",
        ("lockgate.protocol",),
        "protocol is the ground floor: it knows bytes, not what the house does with them",
        _NO_IO,
        _NO_IO_CALLS,
        third_party=("msgpack",),
    ),
    Floor(
        "lockgate.model",
        ("lockgate.protocol", "lockgate.model"),
        "the nouns are shared by client and server and know neither",
        _NO_IO,
        _NO_IO_CALLS,
    ),
    Floor(
        "lockgate.policy",
        ("lockgate.protocol", "lockgate.model", "lockgate.policy"),
        "decisions are pure, so that explaining one is making it again",
        _NO_IO,
        _NO_IO_CALLS,
    ),
    Floor(
        "lockgate.server",
        ("lockgate.protocol", "lockgate.model", "lockgate.policy", "lockgate.server"),
        "client and server never import each other; the command line is above both",
        {},
        {},
    ),
    Floor(
        "lockgate.client",
        ("lockgate.protocol", "lockgate.model", "lockgate.policy", "lockgate.client"),
        "client and server never import each other; the command line is above both",
        {},
        {},
    ),
    Floor(
        "lockgate.desktop",
        ("lockgate.model", "lockgate.client", "lockgate.desktop"),
        "the desktop speaks to the client service and never to a server",
        {},
        {},
    ),
]


_CLIENT_DECISIONS = (
    "local_networks",
    "machine",
    "network_plan",
    "plan",
    "plan_draft",
    "problems",
    "reserved",
    "segments",
)
"""Modules of the client that only decide."""

FLOORS += [
    Floor(
        f"lockgate.client.{name}",
        (
            "lockgate.protocol",
            "lockgate.model",
            *(f"lockgate.client.{other}" for other in _CLIENT_DECISIONS),
            "lockgate.client.linux.dns.wish",
        ),
        "what the client decides is pure; the service and `linux` carry it out",
        _NO_IO,
        _NO_IO_CALLS,
    )
    for name in _CLIENT_DECISIONS
]


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    root = SOURCE.joinpath(*package.split("."))
    if root.with_suffix(".py").is_file():
        yield package, root.with_suffix(".py")
        return
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imports(module: str, path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, `from a import b` as a.b, relative ones resolved."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def violations(floor: Floor, module: str, path: Path, source: str) -> list[str]:
    tree = ast.parse(source)
    found = []
    for line, name in _imports(module, path, tree):
        where = f"{path.name}:{line} ({module}) imports {name}"
        if _within(name, "lockgate"):
            # `from lockgate import x` names a package as its last part; a floor is at least two parts deep.
            if (
                not any(_within(name, allowed) for allowed in floor.imports)
                and name != "lockgate.__version__"
            ):
                found.append(f"{where}: {floor.reason}")
            continue
        found += [f"{where}: {why}" for banned, why in floor.banned.items() if _within(name, banned)]
        top = name.split(".")[0]
        foreign = top not in sys.stdlib_module_names
        if foreign and floor.third_party is not None and top not in floor.third_party:
            found.append(f"{where}: only {', '.join(floor.third_party)} and the standard library down here")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in floor.banned_calls
        ):
            found.append(
                f"{path.name}:{node.lineno} calls {node.func.id}(): {floor.banned_calls[node.func.id]}"
            )
    return found


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.package)
def test_floor(floor: Floor) -> None:
    found = [
        line
        for module, path in _modules(floor.package)
        for line in violations(floor, module, path, path.read_text())
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("lockgate.protocol", "import socket"),
        ("lockgate.protocol", "import os.path"),
        ("lockgate.protocol", "from lockgate.model import session"),
        ("lockgate.protocol", "from ..server import auth"),
        ("lockgate.protocol", "def f():\n    import time"),
        ("lockgate.protocol", "open('x')"),
        ("lockgate.protocol", "import pydantic"),
        ("lockgate.model", "from lockgate.policy.access import explain"),
        ("lockgate.policy", "from lockgate import server"),
        ("lockgate.server", "import lockgate.client"),
        ("lockgate.client", "from lockgate.server import config"),
        ("lockgate.client.machine", "import asyncio"),
        ("lockgate.client.plan", "from lockgate.client.service import hub"),
    ],
)
def test_the_check_sees(package: str, source: str) -> None:
    floor = next(floor for floor in FLOORS if floor.package == package)
    assert violations(floor, f"{package}.sample", Path("sample.py"), source)
