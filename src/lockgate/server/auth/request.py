"""What a sign-in begins with: who shows it, at which URL, to which client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lockgate.model.facts import CertificateFacts
from lockgate.model.policy import Audience
from lockgate.model.session import ClientFacts

Kind = Literal["tunnel", "portal", "console"]


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """One client that wants to sign in.

    audience:    whose realms: those of the sign-in policy must be of the same kind.
    host, path:  of the request, as the edge saw them; the sign-in policy is found by them.
    certificate: shown in TLS and valid; None without one.
    kind:        what the identity is for. "tunnel" asks nothing that clients of the field cannot show.
    """

    audience: Audience
    host: str
    path: str
    client: ClientFacts
    certificate: CertificateFacts | None
    kind: Kind
