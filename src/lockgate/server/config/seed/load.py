"""From a file to the tree, or to every error with file, line, key and what is allowed."""

from __future__ import annotations

import difflib
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.config.seed.checks import Finding, check
from lockgate.server.config.seed.lines import Path, key_lines, line_of
from lockgate.server.config.seed.tree import Seed

# A thousand access rules with a hundred networks each are a quarter of this.
MAX_BYTES = 4 << 20
MAX_SHOWN = 60  # characters of a value in a message
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


def load_configuration(path: FilePath) -> Seed:
    """The tree in `path`. Raises ProblemError that lists every error."""
    return parse_configuration(read_file(path), path)


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
        findings = [_explain(detail, data) for detail in _said_once(error.errors(include_url=False))]
        return Checked(None, _messages(findings, file, lines), ())
    findings = check(configuration)
    errors = _messages([finding for finding in findings if not finding.warning], file, lines)
    warnings = _messages([finding for finding in findings if finding.warning], file, lines)
    return Checked(None if errors else configuration, errors, warnings)


def _unreadable(file: str, line: int | None, wrong: str, allowed: str) -> Checked:
    return Checked(None, (Message(file, line, "", wrong, allowed),), ())


def _messages(findings: list[Finding], file: str, lines: dict[Path, int]) -> tuple[Message, ...]:
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


def _said_once(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without "too few entries" about lists that are short because entries in them are wrong."""
    inside = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in inside]


def _explain(detail: ErrorDetails, data: Mapping[str, Any]) -> Finding:
    """One pydantic error in the words of the house."""
    path = _path_in_file(detail["loc"], data)
    model, allowed = _meaning(path)
    kind = detail["type"]
    value = _shown(detail["input"])
    if kind == "missing":
        wrong = "is missing"
        allowed = allowed or f"a table [{dotted(path)}]"
    elif kind == "extra_forbidden":
        name = str(path[-1])
        known = list(model.model_fields) if model else []
        close = difflib.get_close_matches(name, known, n=1)
        wrong = "is not a known key" + (f"; did you mean {close[0]}?" if close else "")
        allowed = "one of " + ", ".join(known)
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        wrong, allowed = f"{value} is not a table", f"a table [{dotted(path)}]"
    elif kind == "tuple_type":
        wrong = f"{value} is not a list"
    elif kind in ("too_short", "too_long"):
        wrong = f"the list has {len(detail['input'])} entries"
    elif kind == "value_error":
        wrong = printable(str(detail["ctx"]["error"]), 300)
    else:
        wrong = f"{value} is not allowed"
    return Finding(path, wrong, allowed)


def _path_in_file(loc: tuple[int | str, ...], data: Any) -> Path:
    """The part of an error's place that names keys of the file, without marks of the validator."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(part, str) and isinstance(data, Mapping) and (part in data or last):
            data = data.get(part)
        elif isinstance(part, int) and isinstance(data, list) and part < len(data):
            data = data[part]
        else:
            break
        path.append(part)
    return tuple(path)


def _meaning(path: Path) -> tuple[type[BaseModel] | None, str]:
    """The table that holds the last key of `path`, and what is allowed there."""
    model: type[BaseModel] | None = Seed
    allowed = ""
    holder = model
    for part in path:
        if isinstance(part, int):
            continue
        holder = model
        field = model.model_fields.get(part) if model else None
        if field is None:
            return holder, ""
        extra = field.json_schema_extra
        allowed = str(extra.get("allowed", "")) if isinstance(extra, dict) else ""
        model = _table_type(field.annotation)
    return holder, allowed


def _table_type(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model` or `tuple[Model, ...]`."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        found = _table_type(argument)
        if found is not None:
            return found
    return None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{printable(value, MAX_SHOWN)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(str(value), MAX_SHOWN)
