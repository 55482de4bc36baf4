"""What is wrong, or odd, about one setting; and how a value is shown in a message."""

from __future__ import annotations

from dataclasses import dataclass

from lockgate.model.text import printable

MAX_SHOWN = 60  # characters of a value in a message

Path = tuple[str | int, ...]
"""Keys, names of objects, and positions (from 0) in lists whose entries have no name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the setting at `path`: an error keeps a tree from being used, a warning does not."""

    path: Path
    wrong: str
    allowed: str
    warning: bool = False

    @property
    def field(self) -> str:
        """The path as people write it: roles/Staff/session/idle_seconds."""
        return path_text(self.path)

    def __str__(self) -> str:
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{self.field}: {self.wrong}{allowed}" if self.path else f"{self.wrong}{allowed}"

    def as_dict(self) -> dict[str, object]:
        return {
            "path": self.field,
            "wrong": self.wrong,
            "allowed": self.allowed,
            "warning": self.warning,
        }


def path_text(path: Path) -> str:
    """Parts that are no keys or names of ours may hold anything: they are made printable."""
    return "/".join(printable(str(part), 200) for part in path)


def shown(value: object) -> str:
    """A value from outside in a message: short, printable, and never the whole of a long or deep one."""
    if isinstance(value, str):
        return f'"{printable(value, MAX_SHOWN)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        # Python refuses to write whole numbers of thousands of digits.
        return str(value) if value.bit_length() <= 128 else "a number of more than 38 digits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list | tuple):
        plain = all(isinstance(entry, str | int | float) for entry in value[:4])
        if plain and len(value) <= 4:
            return printable(f"[{', '.join(shown(entry) for entry in value)}]", MAX_SHOWN)
        return f"a list of {len(value)} entries"
    if isinstance(value, dict):
        return f"a table of {len(value)} keys"
    return printable(str(value), MAX_SHOWN)
