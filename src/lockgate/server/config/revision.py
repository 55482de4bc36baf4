"""Revisions: committed trees, and the records of the store that they are made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.changes import share
from lockgate.server.config.checks import validate
from lockgate.server.config.findings import Finding
from lockgate.server.config.paths import Data
from lockgate.server.config.tree import Configuration
from lockgate.server.store.records import RevisionRecord


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """The head of a revision."""

    number: int
    time: float
    author: str
    reason: str
    base: int | None  # the revision it was made from

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "time": self.time,
            "author": self.author,
            "reason": self.reason,
            "base": self.base,
        }


@dataclass(frozen=True, slots=True)
class Revision(RevisionInfo):
    """A committed tree. `data` is its JSON form; `warnings` are those of its commit."""

    tree: Configuration
    data: Data
    warnings: tuple[Finding, ...] = ()


def first_revision(
    tree: Configuration, author: str, reason: str, now: float, *, number: int = 1
) -> RevisionRecord:
    """Revision 1 of a new store, or one that follows before its first start."""
    head = RevisionInfo(number, now, author, reason, number - 1 or None)
    return record_of(head, tree.model_dump(mode="json"))


def record_of(head: RevisionInfo, data: Data) -> RevisionRecord:
    """What the store keeps of a revision. data: the JSON form of the tree."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return RevisionRecord(head.number, head.time, head.author, head.reason, head.base, text, digest)


def committed(record: RevisionRecord) -> Revision:
    """A record of the store as a revision. Raises ProblemError "revision-unreadable".

    Only its form is looked at. What was committed is in force, also where a later release judges it more
    strictly: a server that does not start helps nobody.
    """
    data = json.loads(record.tree)
    try:
        tree = Configuration.model_validate(data)
    except ValueError:
        raise ProblemError(
            Problem(
                code="revision-unreadable",
                summary=f"Revision {record.number} of the configuration cannot be used by this release.",
                fix="Use the release that wrote it, or roll back to another revision.",
                details=tuple(str(finding) for finding in validate(data).errors),
            )
        ) from None
    # A setting that a later release added has its default.
    return revision_of(record, tree, tree.model_dump(mode="json"))


def data_of(record: RevisionRecord, like: Data) -> Data:
    """The tree of a record as JSON, with what it has in common with `like` shared."""
    data: Data = share(json.loads(record.tree), like)
    return data


def info_of(record: RevisionRecord) -> RevisionInfo:
    """The head of a record."""
    return RevisionInfo(record.number, record.time, record.author, record.reason, record.base)


def revision_of(
    record: RevisionRecord, tree: Configuration, data: Data, warnings: tuple[Finding, ...] = ()
) -> Revision:
    """A record with its tree. data: the JSON form of the tree."""
    return Revision(
        record.number, record.time, record.author, record.reason, record.base, tree, data, warnings
    )
