"""What settings are declared with, and the types that only the tree needs.

Every setting carries its meaning, what is allowed in words, and hints for whoever shows it, in
`json_schema_extra`: `allowed`; `reference` (the collection whose names it holds); `secret`;
`multiline`; `heading` (where a long section is divided).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lockgate.server.config.findings import shown
from lockgate.server.config.values import FromList

DAY = 86400  # seconds
MAX_NAME = 64
MAX_TEXT = 1000
MAX_OBJECTS = 5000  # of one collection
SEALED = "sealed:v1:"
"""How a secret begins in a stored tree; `server.vault` makes and opens the rest."""

_NAME = re.compile(r"[^\s/\x00-\x1f\x7f](?:[^/\x00-\x1f\x7f]*[^\s/\x00-\x1f\x7f])?")
_SEALED = re.compile(r"sealed:v1:[A-Za-z0-9_-]+={0,2}", re.ASCII)
_GUID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def setting(
    default: Any, text: str, allowed: str, *, hints: dict[str, Any] | None = None, **rest: Any
) -> Any:
    """A setting: its default (`...` for none), its meaning, and what is allowed, in words."""
    return Field(default, description=text, json_schema_extra={"allowed": allowed, **(hints or {})}, **rest)


def number(default: int, text: str, low: int, high: int, unit: str = "") -> Any:
    """A whole number from `low` to `high`, both included."""
    allowed = f"a whole number from {low} to {high}{f' ({unit})' if unit else ''}"
    return setting(default, text, allowed, hints={"unit": unit} if unit else None, ge=low, le=high)


def switch(default: bool, text: str) -> Any:
    """On or off."""
    return setting(default, text, "true or false")


def text(meaning: str, *, default: str = "", longest: int = MAX_TEXT, multiline: bool = False) -> Any:
    """A text that may be empty."""
    hints = {"multiline": True} if multiline else None
    return setting(
        default, meaning, f"a text of at most {longest} characters", hints=hints, max_length=longest
    )


def choice(default: Any, meaning: str, allowed: str) -> Any:
    """One of the values of a Literal, in words."""
    return setting(default, meaning, allowed)


def reference(collection: str, meaning: str, *, default: Any = "", optional: bool = False) -> Any:
    """The name of an object of a collection; "" is none where `optional`."""
    allowed = f"the name of an entry of {collection}" + (', or "" for none' if optional else "")
    return setting(default, meaning, allowed, hints={"reference": collection}, max_length=MAX_NAME)


def references(collection: str, meaning: str, *, most: int = 1000, **rest: Any) -> Any:
    """Names of objects of a collection, in order."""
    return setting(
        (),
        meaning,
        f"a list of at most {most} names of entries of {collection}",
        hints={"reference": collection},
        max_length=most,
        **rest,
    )


def objects(meaning: str, *, most: int = MAX_OBJECTS, ordered: bool = False) -> Any:
    """A list of sections, a collection where they have names; `ordered` where their order counts."""
    return setting(
        (),
        meaning,
        f"at most {most} entries",
        hints={"ordered": True} if ordered else None,
        max_length=most,
    )


def parse_name(value: object) -> str:
    """A name of an object: no slash, no control character, no space at its ends."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text in quotes")
    if len(value) > MAX_NAME:
        raise ValueError(f"the name is {len(value)} characters long, more than {MAX_NAME}")
    if not _NAME.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{value!r} cannot be a name")
    return value


def parse_secret(value: object) -> str:
    """A sealed secret, or "" for none. A plain one is refused: it would be stored as it is."""
    if not isinstance(value, str) or (value and not _SEALED.fullmatch(value)):
        raise ValueError("the secret is not sealed")
    return value


def parse_guid(value: object) -> str:
    """32 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise ValueError(f"{shown(value)} is not 32 hexadecimal digits")
    return value


class Section(BaseModel):
    """Settings that belong together: unknown keys are errors, values keep their types, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Name = Annotated[str, BeforeValidator(parse_name)]
SecretText = Annotated[str, BeforeValidator(parse_secret)]
Guid = Annotated[str, BeforeValidator(parse_guid)]
Names = Annotated[tuple[str, ...], FromList]
Texts = Annotated[tuple[Annotated[str, Field(max_length=256)], ...], FromList]


def secret(meaning: str) -> Any:
    """A secret: written, never read back."""
    return setting("", meaning, "a text; it is stored encrypted and never shown", hints={"secret": True})


class Named(Section):
    """An object of a collection; its name is how the rest of the tree speaks of it."""

    name: Name = setting(
        ...,
        "Name, used once in its collection.",
        f"1 to {MAX_NAME} characters without / and without spaces at the ends",
    )
    description: str = text("What it is for; shown to administrators only.")


class AppliesTo(Section):
    """To whom a policy applies."""

    to: Literal["all", "selected", "except"] = choice(
        "all",
        "all: every role; selected: the roles named; except: every role but those named.",
        '"all", "selected" or "except"',
    )
    roles: Names = references("roles", "The roles named.")
