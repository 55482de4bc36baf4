"""Certificates of a new gateway: an own CA, or checks of given ones."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret

Address = IPv4Address | IPv6Address

CA_LIFE = dt.timedelta(days=3650)
# The longest that current systems accept, also from a CA of one's own.
SERVER_LIFE = dt.timedelta(days=825)
# Clocks of clients may be behind ours.
BACKDATED = dt.timedelta(hours=1)
# X.520: upper bound of a common name.
MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Material:
    """What goes into the data directory, in PEM. `ca` and `ca_key` are None when not ours to know."""

    ca: bytes | None
    ca_key: Secret | None
    chain: bytes
    key: Secret
    warnings: tuple[str, ...] = ()


def create(hostname: str, addresses: Iterable[Address], now: dt.datetime) -> Material:
    """An own CA and a server certificate for `hostname` and every address that names one (P-256).

    now: aware. Wildcard addresses name nothing and are left out.
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name(f"Lockgate CA for {hostname}")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), ca_key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(hostname), ca_name, key.public_key(), ca_key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(hostname, addresses)), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Material(
        ca=ca.public_bytes(serialization.Encoding.PEM),
        ca_key=_private_pem(ca_key),
        chain=certificate.public_bytes(serialization.Encoding.PEM),
        key=_private_pem(key),
    )


def check(chain: bytes, key: Secret, hostname: str, now: dt.datetime) -> Material:
    """A certificate chain and key from elsewhere, in PEM. Raises ProblemError when they cannot be used.

    A self-signed certificate at the end of the chain becomes `ca`.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise ProblemError(
            _unusable("The certificate file holds no PEM certificates.", "Give the server certificate first.")
        ) from None
    leaf = certificates[0]
    private = _load_key(key)
    if _public_bytes(private.public_key()) != _public_bytes(leaf.public_key()):
        raise ProblemError(
            _unusable(
                "The key does not belong to the first certificate of the file.",
                "Give the key of the server certificate, and that certificate before its issuers.",
            )
        )
    if leaf.not_valid_after_utc <= now:
        raise ProblemError(
            _unusable(
                f"The certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}.", "Give one that is valid."
            )
        )
    for certificate, issuer in itertools.pairwise(certificates):
        if not _issued(certificate, issuer):
            raise ProblemError(
                _unusable(
                    f"In the certificate file, {certificate.subject.rfc4514_string()!r} is not signed by the next one.",
                    "Order it: server certificate, then each issuer of the one before.",
                )
            )
    warnings = []
    if leaf.not_valid_before_utc > now:
        warnings.append(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if not _covers(leaf, hostname):
        warnings.append(f"the certificate does not name {hostname}: clients will not accept it")
    top = certificates[-1]
    own_root = len(certificates) > 1 and _issued(top, top)
    sent = certificates[:-1] if own_root else certificates
    return Material(
        ca=top.public_bytes(serialization.Encoding.PEM) if own_root else None,
        ca_key=None,
        chain=b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in sent),
        key=_private_pem(private),
        warnings=tuple(warnings),
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_COMMON_NAME])])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(hostname: str, addresses: Iterable[Address]) -> Sequence[x509.GeneralName]:
    names: dict[x509.GeneralName, None] = {_general_name(hostname): None}
    for address in addresses:
        if not address.is_unspecified:
            names[x509.IPAddress(address)] = None
    return list(names)


def _general_name(hostname: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(hostname))
    except ValueError:
        return x509.DNSName(hostname)


def _load_key(key: Secret) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(key.reveal(), password=None)
    except TypeError:
        summary, fix = "The key file is encrypted.", "Give the key without a passphrase."
    except (ValueError, UnsupportedAlgorithm):
        summary, fix = "The key file holds no usable PEM private key.", "Give an RSA or EC key in PEM."
    raise ProblemError(_unusable(summary, fix))


def _private_pem(key: PrivateKeyTypes) -> Secret:
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _covers(certificate: x509.Certificate, hostname: str) -> bool:
    """Whether a client that connects to `hostname` finds it in the certificate (RFC 6125)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(hostname) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    wildcard = f"*.{hostname.partition('.')[2]}"
    return any(name.lower() in (hostname, wildcard) for name in names.get_values_for_type(x509.DNSName))


def _unusable(summary: str, fix: str) -> Problem:
    return Problem(code="certificate-unusable", summary=summary, fix=fix)
