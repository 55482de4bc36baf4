from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockgate.client.service import trust
from lockgate.client.service.trust import Known, KnownHosts, SystemRoots, describe
from lockgate.model.problem import ProblemError
from lockgate.protocol.edge_link import DialFailed, DialFailure

PIN, OTHER = bytes(range(32)), bytes(32)
HOST = "gw.test:443"


def test_a_stranger_is_not_known(tmp_path: Path) -> None:
    assert KnownHosts(tmp_path).get(HOST) is None


def test_what_was_accepted_or_verified_outlives_the_service(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path)
    known.accepted(HOST, PIN)
    known.verified("other.test:443")
    again = KnownHosts(tmp_path)
    assert again.get(HOST) == Known(verified=False, pin=PIN)
    assert again.get("other.test:443") == Known(verified=True)


def test_a_host_has_one_key_at_most(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path)
    known.accepted(HOST, PIN)
    known.accepted(HOST, OTHER)
    assert known.get(HOST) == Known(False, OTHER)
    known.verified(HOST)
    assert known.get(HOST) == Known(True)  # and the key that was accepted before counts no more


def test_what_one_account_accepts_is_nobody_else_s(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path)
    known.accepted(HOST, PIN, uid=1000)
    known.accepted(HOST, OTHER, uid=1001)
    again = KnownHosts(tmp_path)
    assert [again.get(HOST, uid) for uid in (0, 1000, 1001, 1002)] == [
        None,
        Known(False, PIN),
        Known(False, OTHER),
        None,
    ]
    again.accepted(HOST, PIN)  # root, too, decides for itself
    assert again.get(HOST, 1002) is None
    again.verified(HOST)  # a fact about the host, for everybody
    assert [again.get(HOST, uid) for uid in (0, 1000, 1002)] == [Known(True)] * 3


def test_a_damaged_entry_of_the_system_s_store_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, end = "-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----\n"
    store = tmp_path / "store.pem"
    store.write_text(f"{begin}A{end}{begin}AAAA{end}{begin}AAA")
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    assert SystemRoots().get() == (b"\0\0\0",)


def test_a_name_at_another_port_is_another_host(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path)
    known.accepted(HOST, PIN)
    assert known.get("gw.test:8443") is None


def test_the_oldest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MAX_KNOWN", 3)
    known = KnownHosts(tmp_path)
    for number in range(3):
        known.accepted(f"gw{number}:443", PIN)
    known.accepted("gw0:443", OTHER)  # met again: the newest now
    known.accepted("gw3:443", PIN)
    found = [known.get(f"gw{number}:443") is not None for number in range(4)]
    assert found == [True, False, True, True]
    assert list(json.loads((tmp_path / trust.KNOWN_HOSTS).read_text())) == ["gw2:443", "gw0:443", "gw3:443"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"text"',
        '{"gw.test:443": {}}',
        '{"gw.test:443": {"verified": false, "pin": "zz"}}',
        "null",
    ],
)
def test_a_damaged_file_means_asking_again(tmp_path: Path, text: str) -> None:
    (tmp_path / trust.KNOWN_HOSTS).write_text(text)
    known = KnownHosts(tmp_path)
    assert known.get(HOST) is None
    known.accepted(HOST, PIN)
    assert KnownHosts(tmp_path).get(HOST) == Known(False, PIN)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / f".{trust.KNOWN_HOSTS}.new").mkdir()
    with pytest.raises(ProblemError):
        KnownHosts(tmp_path).accepted(HOST, PIN)


@pytest.mark.parametrize("certificates", [(), (b"",), (b"\x30\x03\x02\x01\x01",), (bytes(5000),)])
def test_hostile_certificates_are_described_by_their_key_alone(certificates: tuple[bytes, ...]) -> None:
    facts = describe(DialFailed(1, DialFailure.UNTRUSTED, "", certificates, PIN))
    assert facts["pin"] == f"sha256:{PIN.hex()}"
    assert facts["subject"] == facts["issuer"] == ""
