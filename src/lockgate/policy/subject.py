"""Somebody to decide about: facts in the form in which they are compared, prepared once for many rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from lockgate.model.access_rule import Address
from lockgate.model.facts import CertificateFacts, SignInFacts
from lockgate.model.pattern import fold
from lockgate.model.place import plain_address
from lockgate.model.text import printable

MAX_SHOWN = 5  # values in a reason
MAX_TEXT = 60  # characters of one of them


@dataclass
class Subject:
    """facts: what is known. now: with the gateway's offset from UTC. certificate: None where the realm
    does not look at it. roles: those that rules have given so far."""

    facts: SignInFacts
    now: datetime
    certificate: CertificateFacts | None
    roles: tuple[str, ...] = ()
    _folded: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError("`now` has no offset from UTC")

    @cached_property
    def address(self) -> Address | None:
        """Where the person comes from; an IPv4 address in IPv6 form is that IPv4 address."""
        try:
            return plain_address(self.facts.source)
        except ValueError:
            return None

    @cached_property
    def signed_in(self) -> datetime:
        """When the person signed in, at the gateway's clock."""
        try:
            return datetime.fromtimestamp(self.facts.time, self.now.tzinfo)
        except (ValueError, OverflowError, OSError):  # no time anybody can sign in at
            return self.now

    @cached_property
    def user(self) -> str:
        return fold(self.facts.user)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        return tuple(fold(group) for group in self.facts.groups)

    @cached_property
    def user_agent(self) -> str:
        return fold(self.facts.user_agent)

    def attribute(self, name: str) -> tuple[str, ...]:
        """Values of an attribute as the server gave them; its name may be written in any case."""
        return _look_up(self.facts.attributes.items(), name)

    def subject_name(self, name: str) -> tuple[str, ...]:
        """Values of an attribute of the certificate's subject."""
        return () if self.certificate is None else _look_up(self.certificate.subject.items(), name)

    def folded(self, kind: str, name: str) -> tuple[str, ...]:
        """Folded values of attribute ("attribute") or certificate subject ("subject") `name`."""
        key = (kind, name)
        if key not in self._folded:
            values = self.attribute(name) if kind == "attribute" else self.subject_name(name)
            self._folded[key] = tuple(fold(value) for value in values)
        return self._folded[key]


def _look_up(items: Iterable[tuple[str, tuple[str, ...]]], name: str) -> tuple[str, ...]:
    wanted = fold(name)
    return tuple(value for key, values in items if fold(key) == wanted for value in values)


def shown(values: Iterable[str]) -> str:
    """Some values for a reason: bounded, printable, comma-separated; "none" for none."""
    listed = list(values)
    texts = [printable(value, MAX_TEXT) for value in listed[:MAX_SHOWN]]
    more = len(listed) - MAX_SHOWN
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "") if texts else "none"
