"""What a Lockgate client and a Lockgate gateway say to each other beyond the protocol of the field.

The client names its capabilities in the client information text; the gateway uses an extension only
towards a client that named it. openconnect never sends the key and sees none of this.
"""

import hashlib
from collections.abc import Iterable

from lockgate.protocol.errors import UsageError
from lockgate.protocol.secret import Secret

TEXT_KEY = "lockgateCapabilities"
"""Key of the comma-separated words in the client information text."""

ESP_GCM = "esp-gcm"
"""AES-GCM with 64-bit sequence numbers."""

ESP_CROSS = "esp-cross"
"""ESP carries both inner IP versions whatever the outer one."""

ESP_PROBE = "esp-probe"
"""Padded probes, which find the path MTU, and word of a fall back to TLS."""

RESUME_PROOF = "resume-proof"
"""Resumptions are signed with the key of the session."""

SESSION_OPTIONS = "session-options"
"""The client is told when to remind its user of the end, when that end moves, and whether it may keep the
password."""

SPLIT_NETWORKS = "split-networks"
"""The client is told during its tunnel when its split-tunnel networks change (`split_networks`)."""

CAPABILITIES = frozenset([ESP_GCM, ESP_CROSS, ESP_PROBE, RESUME_PROOF, SESSION_OPTIONS, SPLIT_NETWORKS])

PUBLIC_KEY = 32
"""Bytes of an Ed25519 public key (RFC 8032, section 5.1.5)."""

PROOF = 64
"""Bytes of an Ed25519 signature (RFC 8032, section 5.1.6)."""

EXPORTER = 32
"""Bytes of the TLS exporter value that goes into a proof."""

_RESUME_LABEL = b"lockgate-resume-v1\0"


def capability_words(capabilities: Iterable[str]) -> str:
    """The value of TEXT_KEY, in a fixed order."""
    words = frozenset(capabilities)
    if unknown := words - CAPABILITIES:
        raise UsageError(f"unknown capabilities: {', '.join(sorted(unknown))}")
    return ",".join(sorted(words))


def known_capabilities(value: bytes) -> frozenset[str]:
    """The words of a value that mean something here; others come from versions to be, and are dropped."""
    words = set(value.split(b","))
    return frozenset(word for word in CAPABILITIES if word.encode() in words)


def resume_message(exporter: bytes, cookie: Secret) -> bytes:
    """What the proof of a resumption signs.

    exporter: 32 bytes, exported from the outer TLS connection of this very resumption, so that a
    proof seen elsewhere is worth nothing here.
    """
    if len(exporter) != EXPORTER:
        raise UsageError(f"an exporter value of {len(exporter)} bytes")
    return _RESUME_LABEL + exporter + hashlib.sha256(cookie.reveal()).digest()
