"""The key that a session is bound to, and how the client introduces itself with it."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lockgate import __version__
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.extensions import CAPABILITIES, EXPORTER, resume_message
from lockgate.protocol.secret import Secret

if TYPE_CHECKING:
    from lockgate.client.service.dialer import Transport


@dataclass(frozen=True, slots=True)
class ResumeKey:
    """An Ed25519 key made for one session; its cookie is worth nothing without it."""

    secret: Secret  # 32 bytes raw

    @classmethod
    def generate(cls) -> ResumeKey:
        return cls(Secret(Ed25519PrivateKey.generate().private_bytes_raw()))

    def public(self) -> bytes:
        private = Ed25519PrivateKey.from_private_bytes(self.secret.reveal())
        return private.public_key().public_bytes_raw()

    def prove(self, exporter: Secret, cookie: Secret) -> bytes:
        """Proof for one resumption on one TLS connection; empty when TLS gave no exporter."""
        if len(exporter.reveal()) != EXPORTER:
            return b""
        private = Ed25519PrivateKey.from_private_bytes(self.secret.reveal())
        return private.sign(resume_message(exporter.reveal(), cookie))


def user_agent() -> str:
    return f"Lockgate/{__version__} ({platform.system()} {platform.machine()})"


def introduction(
    key: ResumeKey, transport: Transport, cookie: Secret | None, handle: Secret | None = None
) -> ClientIntroduction:
    """What the client says about itself: with a cookie it resumes and proves the key, else it shows it.

    handle: of a portal's Start, for a session without a question.
    """
    return ClientIntroduction(
        host_name=socket.gethostname(),
        client_address=transport.local,
        user_agent=user_agent(),
        system="Linux",
        locale=os.environ.get("LANG", "C").partition(".")[0].replace("_", "-"),
        capabilities=CAPABILITIES,
        cookie=cookie,
        public_key=b"" if cookie is not None else key.public(),
        proof=key.prove(transport.exporter, cookie) if cookie is not None else b"",
        handle=handle if cookie is None else None,
    )
