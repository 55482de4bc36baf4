"""Certificates of a new gateway, and checks of given ones."""

import datetime as dt
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import pki

NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
ADDRESSES = [ip_address(text) for text in ("192.0.2.1", "0.0.0.0", "::", "2001:db8::1", "192.0.2.1")]


def names(pem):
    leaf = x509.load_pem_x509_certificate(pem)
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_the_certificate_names_the_host_and_every_address_that_is_one():
    material = pki.create("gw.example.org", ADDRESSES, NOW)
    assert names(material.chain) == ["gw.example.org", "192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize("hostname", ["192.0.2.1", "2001:db8::1"])
def test_a_host_may_be_an_address(hostname):
    material = pki.create(hostname, [ip_address(hostname)], NOW)
    assert names(material.chain) == [hostname]


def test_a_long_host_name_fits():
    hostname = ".".join(["a" * 60] * 4)
    assert names(pki.create(hostname, [], NOW).chain) == [hostname]


def test_a_client_with_the_ca_accepts_the_certificate():
    material = pki.create("gw.example.org", ADDRESSES, NOW)
    ca = x509.load_pem_x509_certificates(material.ca)
    assert len(ca) == 1
    chain = x509.load_pem_x509_certificates(material.chain)
    for subject in (x509.DNSName("gw.example.org"), x509.IPAddress(ip_address("2001:db8::1"))):
        policy = PolicyBuilder().store(Store(ca)).time(NOW).build_server_verifier(subject)
        assert policy.verify(chain[0], chain[1:])[-1] == ca[0]


def test_keys_are_p256_and_belong_to_their_certificates():
    material = pki.create("gw", [], NOW)
    for pem, key in ((material.ca, material.ca_key), (material.chain, material.key)):
        private = serialization.load_pem_private_key(key.reveal(), None)
        assert isinstance(private.curve, ec.SECP256R1)
        assert private.public_key() == x509.load_pem_x509_certificate(pem).public_key()


def certificate(subject, issuer=None, *, host="gw.example.org", days=30, ca=False):
    """(certificate, key); issuer: such a pair, None for self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=60))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


def pem(*pairs):
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each, _ in pairs)


def key_pem(pair, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return Secret(
        pair[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption
        )
    )


ROOT = certificate("root", ca=True)
MIDDLE = certificate("middle", ROOT, ca=True)
LEAF = certificate("leaf", MIDDLE)


def test_a_given_chain_is_kept_without_its_root_which_becomes_the_ca():
    material = pki.check(pem(LEAF, MIDDLE, ROOT), key_pem(LEAF), "gw.example.org", NOW)
    assert (material.chain, material.ca, material.ca_key) == (pem(LEAF, MIDDLE), pem(ROOT), None)
    assert material.warnings == ()


def test_without_a_root_there_is_no_ca():
    material = pki.check(pem(LEAF, MIDDLE), key_pem(LEAF), "gw.example.org", NOW)
    assert (material.chain, material.ca) == (pem(LEAF, MIDDLE), None)


WRONG = [
    (b"", key_pem(LEAF), "no PEM certificates"),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key_pem(LEAF), "no PEM certificates"),
    (pem(LEAF), key_pem(MIDDLE), "does not belong"),
    (pem(MIDDLE, LEAF), key_pem(LEAF), "does not belong"),
    (pem(LEAF), Secret(b"x"), "no usable PEM private key"),
    (pem(LEAF), key_pem(LEAF, b"passphrase"), "encrypted"),
    (pem(LEAF, ROOT), key_pem(LEAF), "not signed by the next one"),
]


@pytest.mark.parametrize(("chain", "key", "words"), WRONG)
def test_what_cannot_be_used_is_refused(chain, key, words):
    with pytest.raises(ProblemError, match=words) as caught:
        pki.check(chain, key, "gw.example.org", NOW)
    assert caught.value.problem.code == "certificate-unusable"


def test_an_expired_certificate_is_refused():
    old = certificate("old", days=-1)
    with pytest.raises(ProblemError, match="expired on 2026-11-21"):
        pki.check(pem(old), key_pem(old), "gw.example.org", NOW)


NAMES = [
    ("gw.example.org", "gw.example.org", True),
    ("GW.example.org", "gw.example.org", True),
    ("*.example.org", "gw.example.org", True),
    ("*.example.org", "a.gw.example.org", False),
    ("*.example.org", "example.org", False),
    ("other.example.org", "gw.example.org", False),
    ("gw.example.org", "192.0.2.1", False),
]


@pytest.mark.parametrize(("host", "asked", "named"), NAMES)
def test_a_certificate_for_another_name_is_a_warning(host, asked, named):
    pair = certificate("leaf", host=host)
    warnings = pki.check(pem(pair), key_pem(pair), asked, NOW).warnings
    assert warnings == (
        () if named else (f"the certificate does not name {asked}: clients will not accept it",)
    )
