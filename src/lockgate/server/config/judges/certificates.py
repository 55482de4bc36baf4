"""Certificates that stand in the tree as PEM."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.tree import Configuration

_ALLOWED = "one certificate between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"


def judge(tree: Configuration) -> Iterator[Finding]:
    certificates = tree.certificates
    for ca in certificates.trusted_client_cas:
        yield from _ca(ca.certificate, ("certificates", "trusted_client_cas", ca.name, "certificate"))
    for server_ca in certificates.trusted_server_cas:
        yield from _ca(
            server_ca.certificate, ("certificates", "trusted_server_cas", server_ca.name, "certificate")
        )
    for target in tree.push_targets:
        path: Path = ("push_targets", target.name)
        if target.ca:
            yield from pem(target.ca, (*path, "ca"))
        if not target.token:
            yield Finding(
                (*path, "token"),
                "nothing can be pushed without a token",
                "a token of that server",
                warning=True,
            )


def _ca(text: str, path: Path) -> Iterator[Finding]:
    certificate = None
    for found in pem(text, path):
        yield found
        return
    certificate = x509.load_pem_x509_certificate(text.encode())
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_ca = constraints.ca
    except (x509.ExtensionNotFound, ValueError):
        is_ca = False
    if not is_ca:
        yield Finding(path, "the certificate is not that of a CA", "the certificate of a CA")


def pem(text: str, path: Path) -> Iterator[Finding]:
    """What keeps a text from being one certificate."""
    if "PRIVATE KEY" in text:
        yield Finding(path, "there is a private key in the text", _ALLOWED)
        return
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        yield Finding(path, "the text is no certificate in PEM", _ALLOWED)
        return
    if len(found) != 1:
        yield Finding(path, f"the text holds {len(found)} certificates", _ALLOWED)
