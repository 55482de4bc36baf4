"""Which server certificates are believed: the system's store, the user's, and keys accepted once."""

from __future__ import annotations

import contextlib
import json
import ssl
from dataclasses import dataclass
from pathlib import Path

from lockgate.client.service.files import read_private, write_private
from lockgate.protocol import edge_link

KNOWN_HOSTS = "known-hosts.json"
MAX_KNOWN = 1000  # hosts remembered; the oldest goes


class SystemRoots:
    """The trust anchors of this machine, read when they are first needed and when the file changes."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._roots: tuple[bytes, ...] = ()

    def get(self) -> tuple[bytes, ...]:
        """DER certificates; none when the machine has no store."""
        path = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
        try:
            found = Path(path).stat()
        except OSError:
            path = "/etc/ssl/certs/ca-certificates.crt"
            try:
                found = Path(path).stat()
            except OSError:
                return ()
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
            roots = []
            for piece in Path(path).read_text(errors="replace").split(begin)[1:]:
                body, closed, _ = piece.partition(end)
                with contextlib.suppress(ValueError):  # one damaged entry is no reason to trust nobody
                    if closed:
                        roots.append(ssl.PEM_cert_to_DER_cert(begin + body + end))
            self._roots, self._stamp = tuple(roots[: edge_link.MAX_ROOTS]), stamp
        return self._roots


@dataclass(frozen=True, slots=True)
class Known:
    """A host met before: its certificate verified then, or its key (SHA-256) was accepted by the user."""

    verified: bool
    pin: bytes = b""


class KnownHosts:
    """Remembers hosts by "host:port" across restarts. One host has at most one accepted key for each account,
    since nobody is to trust what another one clicked away; a host that was verified once is never offered for
    acceptance again, to nobody. Root is the account that none is named for."""

    def __init__(self, state_directory: Path) -> None:
        self._path = state_directory / KNOWN_HOSTS
        self._hosts: dict[str, Known] = {}
        try:
            document = json.loads(read_private(self._path) or "{}")
            for host, entry in document.items():
                self._hosts[host] = Known(bool(entry["verified"]), bytes.fromhex(entry["pin"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._hosts = {}  # a damaged file means asking again, never trusting more

    def get(self, host: str, uid: int = 0) -> Known | None:
        """What counts for an account."""
        known = self._hosts.get(host)
        return known if known is not None and known.verified else self._hosts.get(_for(host, uid))

    def verified(self, host: str) -> None:
        """The certificate was good by itself."""
        if self._hosts.get(host) != Known(True):
            self._set(host, Known(True))

    def accepted(self, host: str, pin: bytes, uid: int = 0) -> None:
        """The user accepted this key."""
        self._set(_for(host, uid), Known(False, pin))

    def _set(self, host: str, known: Known) -> None:
        self._hosts.pop(host, None)
        self._hosts[host] = known
        while len(self._hosts) > MAX_KNOWN:
            del self._hosts[next(iter(self._hosts))]
        document = {
            name: {"verified": entry.verified, "pin": entry.pin.hex()} for name, entry in self._hosts.items()
        }
        write_private(self._path, json.dumps(document, indent=1))


def _for(host: str, uid: int) -> str:
    return f"{host} {uid}" if uid else host


def describe(failure: edge_link.DialFailed) -> dict[str, object]:
    """What a person needs to judge a certificate; fields of the `certificate` prompt."""
    from cryptography import x509  # heavy, and only needed when a certificate is in doubt
    from cryptography.x509.oid import NameOID

    facts: dict[str, object] = {
        "reason": failure.cause.value,
        "pin": f"sha256:{failure.pin.hex()}",
        "subject": "",
        "issuer": "",
        "not_before": "",
        "not_after": "",
        "names": [],
    }
    if not failure.certificates:
        return facts
    try:
        certificate = x509.load_der_x509_certificate(failure.certificates[0])
        facts["not_before"] = certificate.not_valid_before_utc.isoformat()
        facts["not_after"] = certificate.not_valid_after_utc.isoformat()
        for key, name in (("subject", certificate.subject), ("issuer", certificate.issuer)):
            common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
            text = str(common[0].value) if common else name.rfc4514_string()
            facts[key] = _shown(text)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        facts["names"] = [_shown(str(name)) for name in names.get_values_for_type(x509.DNSName)[:16]] + [
            str(address) for address in names.get_values_for_type(x509.IPAddress)[:16]
        ]
    except (ValueError, x509.ExtensionNotFound):
        pass  # hostile bytes: what could be read is shown, the key's hash is what counts
    return facts


def _shown(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:200]
