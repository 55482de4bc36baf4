"""What is known about somebody who signs in: the input of every decision, kept with the session for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A client certificate that was valid when it was shown: chain, dates and purpose were checked.

    subject: attribute ("CN", "OU", "serialNumber" …) → values, in the order of the certificate.
    """

    subject: Mapping[str, tuple[str, ...]]
    issuer: str
    serial: str
    fingerprint: str  # SHA-256 in hexadecimal digits

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject": {name: list(values) for name, values in self.subject.items()},
            "issuer": self.issuer,
            "serial": self.serial,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CertificateFacts:
        return cls(
            subject={name: tuple(values) for name, values in data["subject"].items()},
            issuer=data["issuer"],
            serial=data["serial"],
            fingerprint=data["fingerprint"],
        )


@dataclass(frozen=True, slots=True)
class SignInFacts:
    """Who, from where, with what. Texts are printable and bounded already.

    user:       canonical name, without a realm suffix. server: auth server that checked it.
    groups, attributes: from the directory server of the realm.
    source:     address as text. user_agent, host_name: what the client says about itself.
    time:       of the decision's sign-in, seconds since 1970.
    """

    user: str
    server: str
    realm: str
    source: str
    user_agent: str
    host_name: str
    time: float
    groups: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    certificate: CertificateFacts | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, for the store."""
        return {
            "user": self.user,
            "server": self.server,
            "realm": self.realm,
            "source": self.source,
            "user_agent": self.user_agent,
            "host_name": self.host_name,
            "time": self.time,
            "groups": list(self.groups),
            "attributes": {name: list(values) for name, values in self.attributes.items()},
            "certificate": None if self.certificate is None else self.certificate.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SignInFacts:
        """The inverse of `as_dict`."""
        certificate = data.get("certificate")
        return cls(
            user=data["user"],
            server=data["server"],
            realm=data["realm"],
            source=data["source"],
            user_agent=data["user_agent"],
            host_name=data["host_name"],
            time=data["time"],
            groups=tuple(data.get("groups", ())),
            attributes={name: tuple(values) for name, values in data.get("attributes", {}).items()},
            certificate=None if certificate is None else CertificateFacts.from_dict(certificate),
        )
