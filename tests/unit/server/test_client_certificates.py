"""Client certificates: believed only up to a CA that is trusted for them, for the purpose, at the time."""

import datetime as dt
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lockgate.server.auth.certificates import Authorities, Untrusted, facts_of
from tests.unit.server.control_subject import Rig, tree
from tests.unit.server.support import new_store, run

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
CLIENT_AUTH, SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@cache
def key(name):
    return ec.generate_private_key(ec.SECP256R1())


def named(name, unit="Dev"):
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )


def certificate(name, issuer, *, ca=False, usage=None, days=(-1, 30), constraints=True):
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key(name).public_key())
        .serial_number(0x2A)
        .not_valid_before(NOW + dt.timedelta(days[0]))
        .not_valid_after(NOW + dt.timedelta(days[1]))
    )
    if constraints:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(key(issuer), hashes.SHA256())


ROOT, OTHER = certificate("root", "root", ca=True), certificate("other", "other", ca=True)
BETWEEN = certificate("between", "root", ca=True)


def der(*chain):
    return [each.public_bytes(serialization.Encoding.DER) for each in chain]


def pem(each):
    return each.public_bytes(serialization.Encoding.PEM).decode()


GOOD = {
    "of the root": [certificate("alice", "root")],
    "for clients": [certificate("alice", "root", usage=CLIENT_AUTH)],
    "of a CA between": [certificate("alice", "between"), BETWEEN],
}


@pytest.mark.parametrize("which", GOOD)
def test_what_is_believed(which):
    facts = facts_of(der(*GOOD[which]), [ROOT], NOW.timestamp())
    assert facts.subject == {"CN": ("alice",), "OU": ("Dev",)}
    assert facts.serial == "2a"
    assert facts.fingerprint == GOOD[which][0].fingerprint(hashes.SHA256()).hex()


BAD = {
    "of an unknown CA": [certificate("alice", "other")],
    "made by itself": [certificate("alice", "alice")],
    "for servers": [certificate("alice", "root", usage=SERVER_AUTH)],
    "expired": [certificate("alice", "root", days=(-30, -1))],
    "not yet valid": [certificate("alice", "root", days=(1, 30))],
    "without the CA between": [certificate("alice", "between")],
    "of somebody who is no CA": [certificate("mallory", "bob"), certificate("bob", "root")],
    "of a CA that does not say it is one": [
        certificate("mallory", "bob"),
        certificate("bob", "root", constraints=False),
    ],
}


@pytest.mark.parametrize("which", BAD)
def test_what_is_not_believed(which):
    with pytest.raises(Untrusted):
        facts_of(der(*BAD[which]), [ROOT], NOW.timestamp())


@pytest.mark.parametrize("chain", [[b""], [b"\x30\x03\x02\x01\x01"], [bytes(5000)]])
def test_rubbish_is_no_certificate(chain):
    with pytest.raises(Untrusted):
        facts_of(chain, [ROOT], NOW.timestamp())


def test_which_cas_count_is_configured_and_followed(tmp_path):
    def trusting(**options):
        ca = {"name": "root", "certificate": pem(ROOT), **options}
        return tree(certificates={"trusted_client_cas": [ca]})

    async def work():
        async with new_store(tmp_path) as store:
            rig = Rig(store, trusting())
            rig.clock.now = NOW.timestamp()
            authorities = Authorities(rig.in_force, rig.audit, rig.clock)
            chain = der(*GOOD["of a CA between"])
            assert (await authorities.judge(chain, "192.0.2.9")).subject["CN"] == ("alice",)
            assert await authorities.judge([], "192.0.2.9") is None
            await rig.adopt(trusting(client_authentication=False))
            assert await authorities.judge(chain, "192.0.2.9") is None
            [entry] = await store.audit.newest(10)
            assert (entry.event, entry.reason, entry.log) == ("certificate", "not-trusted", "user")
            rig.sign_ins.close()

    run(work())
