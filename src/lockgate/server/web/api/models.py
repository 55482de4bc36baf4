"""Answers and requests that several subjects share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


def _no_controls(text: str) -> str:
    if any(ord(each) < 0x20 or 0xD800 <= ord(each) <= 0xDFFF for each in text):
        raise ValueError("control characters are not allowed")
    return text


class Given(BaseModel):
    """What comes in: unknown fields are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Told(BaseModel):
    """What goes out."""

    model_config = ConfigDict(extra="forbid")


Line = Annotated[str, AfterValidator(_no_controls), Field(max_length=256)]
"""A text of one line."""
NonEmptyLine = Annotated[str, AfterValidator(_no_controls), Field(min_length=1, max_length=256)]
Reason = Annotated[str, AfterValidator(_no_controls), Field(max_length=500)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=253)]
"""Comes in, never goes out."""


class ProblemDocument(BaseModel):
    """What went wrong, and what to do about it (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    summary: str
    fix: str
    details: list[str]
    request_id: str
    findings: list[dict[str, Any]] | None = None
    conflicts: list[dict[str, Any]] | None = None


class ChangeTold(Told):
    """One difference between two trees; secrets stand as "(secret)"."""

    path: str
    kind: str
    before: Any
    after: Any


class FindingTold(Told):
    """Something about a setting."""

    path: str
    wrong: str
    allowed: str
    warning: bool


class Ended(Told):
    """Numbers of the sessions that ended."""

    ended: list[str]
