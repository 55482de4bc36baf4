"""Proof that a client which comes back holds the key its session was opened with."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lockgate.model.session import RefusalReason, Session
from lockgate.protocol.pulse.extensions import EXPORTER, resume_message
from lockgate.protocol.secret import Secret


@dataclass(frozen=True, slots=True)
class Proof:
    """What a client showed beside its cookie.

    exporter:   of the TLS connection it came by, as the edge knows it; empty where TLS has none.
    signature:  64 bytes, or empty where the client sent none.
    """

    exporter: Secret
    signature: bytes


def judge(session: Session, cookie: Secret, proof: Proof) -> RefusalReason | None:
    """Why `cookie` does not open `session` on that connection; None when it does, or needs no proof."""
    if not session.bound:
        return None
    if not proof.signature:
        return RefusalReason.PROOF_MISSING
    exporter = proof.exporter.reveal()
    # Without it a proof made on one connection would be good on every other.
    if len(exporter) != EXPORTER:
        return RefusalReason.PROOF_WRONG
    try:
        key = Ed25519PublicKey.from_public_bytes(session.public_key)
        key.verify(proof.signature, resume_message(exporter, cookie))
    except (InvalidSignature, ValueError):
        return RefusalReason.PROOF_WRONG
    return None
