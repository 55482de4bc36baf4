"""The device certificate: what the gateway shows to clients and administrators.

The control plane sees its public part only. Who replaces it does so in D/tls on the machine and starts the server
again: no private key passes through a process that answers strangers.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.datadir import DataDirectory
from lockgate.server.web.api.models import Told
from lockgate.server.web.api.route import Of, make_router, rights
from lockgate.server.web.principal import needs

router = make_router("certificates")

CHAIN = "certificate.pem"
"""In run/: the public certificates, written by the supervisor at each start."""


class CertificateTold(Told):
    """A certificate. Times are seconds since 1970."""

    subject: str
    issuer: str
    serial: str
    names: list[str]
    not_before: float
    not_after: float
    fingerprint: str
    pem: str


class DeviceCertificate(Told):
    """chain: its own first, as clients get it. remaining: seconds until the first of them is over."""

    chain: list[CertificateTold]
    remaining: int


def device_chain(directory: DataDirectory) -> list[x509.Certificate]:
    """What the edge shows. Empty where this process cannot see it."""
    for path in (directory.run / CHAIN, directory.server_certificate):
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            continue
    return []


def certificate_told(certificate: x509.Certificate) -> CertificateTold:
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(each.value) for each in found]
    except x509.ExtensionNotFound:
        names = []
    return CertificateTold(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        names=names,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        pem=certificate.public_bytes(Encoding.PEM).decode(),
    )


@router.get("/certificates/device", dependencies=[rights(needs("system"))])
async def device(services: Of) -> DeviceCertificate:
    """The certificate that clients and administrators see."""
    chain = device_chain(services.directory)
    if not chain:
        raise ProblemError(
            Problem(
                "no-certificate",
                "The certificate of this gateway cannot be read here.",
                "Start the server again; it publishes its certificate at the start.",
            )
        )
    told = [certificate_told(each) for each in chain]
    first = min(each.not_after for each in told)
    return DeviceCertificate(chain=told, remaining=int(first - services.clock()))
