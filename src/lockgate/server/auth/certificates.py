"""Client certificates: which ones are believed, and what they say.

TLS has proven that the client holds the key. Here the chain is built up to a CA that the configuration trusts for
client authentication, with dates and purpose checked; everything else is treated as no certificate, and the
audit says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockgate.model.facts import CertificateFacts
from lockgate.model.text import printable
from lockgate.server.audit import Audit
from lockgate.server.config.tree.system import Certificates
from lockgate.server.in_force import InForce

MAX_DEPTH = 5  # certificates between a client's and its CA; chains in the field have at most three
TEXT_LIMIT = 256  # characters kept of a value

_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.GIVEN_NAME: "GN",
    NameOID.SURNAME: "SN",
    NameOID.TITLE: "title",
}


class Untrusted(Exception):
    """Why a certificate is not believed; `str` is for the audit."""


class Authorities:
    """The trusted client CAs of the configuration in force."""

    def __init__(self, in_force: InForce, audit: Audit, clock: Callable[[], float] = time.time) -> None:
        self._in_force, self._audit, self._clock = in_force, audit, clock
        self._section: Certificates | None = None
        self._roots: list[x509.Certificate] = []

    async def judge(self, chain: Sequence[bytes], source: str) -> CertificateFacts | None:
        """What a client's certificate says; None for none, and for one that is not believed.

        chain: DER, the client's own first.
        """
        if not chain:
            return None
        section = self._in_force.tree.certificates
        if section is not self._section:
            self._roots = _roots(section)
            self._section = section
        try:
            return facts_of(chain, self._roots, self._clock())
        except Untrusted as why:
            await self._audit.record(
                "certificate", ok=False, reason="not-trusted", source=source, text=str(why), log="user"
            )
            return None


def facts_of(chain: Sequence[bytes], roots: Iterable[x509.Certificate], now: float) -> CertificateFacts:
    """Raises Untrusted."""
    trusted = list(roots)
    if not trusted:
        raise Untrusted("no CA is trusted for client authentication")
    try:
        leaf, *between = (x509.load_der_x509_certificate(each) for each in chain)
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(trusted))
            .time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
            .max_chain_depth(MAX_DEPTH)
            .extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy())
            .build_client_verifier()
        )
        verifier.verify(leaf, between)
        return CertificateFacts(
            subject=_attributes(leaf.subject),
            issuer=printable(leaf.issuer.rfc4514_string(), TEXT_LIMIT),
            serial=f"{leaf.serial_number:x}",
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        )
    except verification.VerificationError as error:
        raise Untrusted(str(error)) from None
    except ValueError as error:
        raise Untrusted(f"it cannot be read: {error}") from None


def _roots(section: Certificates) -> list[x509.Certificate]:
    return [
        certificate
        for ca in section.trusted_client_cas
        if ca.client_authentication
        for certificate in x509.load_pem_x509_certificates(ca.certificate.encode())
    ]


def _attributes(name: x509.Name) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for attribute in name:
        key = _NAMES.get(attribute.oid, attribute.oid.dotted_string)
        value = attribute.value if isinstance(attribute.value, str) else attribute.value.hex()
        found[key] = (*found.get(key, ()), printable(value, TEXT_LIMIT))
    return found


def _ca_policy() -> verification.ExtensionPolicy:
    """What private CAs have as well as public ones: they say that they are one."""
    anything = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, anything, _is_ca)
        .may_be_present(x509.KeyUsage, anything, _signs_certificates)
    )


def _leaf_policy() -> verification.ExtensionPolicy:
    anything = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.permit_all()
        .may_be_present(x509.ExtendedKeyUsage, anything, _for_clients)
        .may_be_present(x509.KeyUsage, anything, _signs)
    )


def _is_ca(_: object, __: object, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("an issuer is no CA")


def _signs_certificates(_: object, __: object, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


def _for_clients(_: object, __: object, extension: x509.ExtendedKeyUsage | None) -> None:
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extension is not None and not allowed & set(extension):
        raise ValueError("it is not for client authentication")


def _signs(_: object, __: object, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.digital_signature:
        raise ValueError("its key may not sign")
