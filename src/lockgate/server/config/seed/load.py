"""From a file to the tree, or to every error with file, line, key and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.config.explain import explain
from lockgate.server.config.findings import MAX_SHOWN, Finding, Path
from lockgate.server.config.schema import Node
from lockgate.server.config.seed.checks import check
from lockgate.server.config.seed.lines import key_lines, line_of
from lockgate.server.config.seed.tree import Seed

# A thousand access rules with a hundred networks each are a quarter of this.
MAX_BYTES = 4 << 20
_FILE = Node("section", (Seed,))
_TOML_POSITION = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True, slots=True)
class Message:
    """One error or warning, as people and `--json` see it."""

    file: str
    line: int | None
    key: str  # dotted path with list positions: access[0].to[1]
    wrong: str
    allowed: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{place}:{key} {self.wrong}{allowed}"

    def as_dict(self) -> dict[str, object]:
        return {
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "wrong": self.wrong,
            "allowed": self.allowed,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of reading a file. `configuration` is there exactly when there are no errors."""

    configuration: Seed | None
    errors: tuple[Message, ...]
    warnings: tuple[Message, ...]


def parse_configuration(content: bytes, path: FilePath) -> Seed:
    """The tree in the content of `path`. Raises ProblemError that lists every error."""
    checked = check_bytes(content, str(path))
    if checked.configuration is None:
        raise ProblemError(
            Problem(
                code="config-invalid",
                summary=f"The configuration {path} cannot be used.",
                fix=f"Correct it and try again; `lockgate config check {path}` shows what is left.",
                details=tuple(str(message) for message in checked.errors),
            )
        )
    return checked.configuration


def check_file(path: FilePath) -> Checked:
    """Reads and checks `path`. Raises ProblemError when it cannot be read at all."""
    return check_bytes(read_file(path), str(path))


def read_file(path: FilePath) -> bytes:
    """The content of `path`, cut off where it is too large anyway. Raises ProblemError."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="config-unreadable",
                summary=f"The configuration {path} cannot be read: {error.strerror}.",
                fix="Name an existing TOML file that this user may read.",
            )
        ) from None


def check_bytes(content: bytes, file: str) -> Checked:
    """Checks the content of a configuration file; `file` is its name in messages. Total for any input."""
    if len(content) > MAX_BYTES:
        return _unreadable(file, None, "the file is too large", f"at most {MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _unreadable(file, line, "this is not UTF-8", "text in UTF-8")
    # As tomllib counts: it reads a carriage return before a line end as part of it.
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as error:
        position = _TOML_POSITION.search(str(error))
        line = int(position[1]) if position else text.rstrip("\n").count("\n") + 1
        wrong = printable(_TOML_POSITION.sub("", str(error)).removesuffix(" (at end of document)"), 200)
        return _unreadable(
            file, line, f"this is not TOML: {wrong}", "key = value lines, [tables], # comments"
        )
    except RecursionError:
        return _unreadable(
            file, None, "lists or tables are nested too deeply", "the nesting of the default file"
        )
    return _judge(data, file, lines)


def _judge(data: dict[str, Any], file: str, lines: dict[Path, int]) -> Checked:
    try:
        configuration = Seed.model_validate(data)
    except ValidationError as error:
        wrong = explain(error, data, _FILE, by_name=False, written=lambda path: f"[{dotted(path)}]")
        return Checked(None, _messages(wrong, file, lines), ())
    findings = check(configuration)
    errors = _messages([finding for finding in findings if not finding.warning], file, lines)
    warnings = _messages([finding for finding in findings if finding.warning], file, lines)
    return Checked(None if errors else configuration, errors, warnings)


def _unreadable(file: str, line: int | None, wrong: str, allowed: str) -> Checked:
    return Checked(None, (Message(file, line, "", wrong, allowed),), ())


def _messages(findings: Iterable[Finding], file: str, lines: dict[Path, int]) -> tuple[Message, ...]:
    """In the order of the file."""
    messages = [
        Message(file, line_of(lines, finding.path), dotted(finding.path), finding.wrong, finding.allowed)
        for finding in findings
    ]
    return tuple(sorted(messages, key=lambda message: message.line or 0))


def dotted(path: Path) -> str:
    """A path as people write it: access[0].to[1]."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{printable(part, MAX_SHOWN)}"'
            text += f".{shown}" if text else shown
    return text
