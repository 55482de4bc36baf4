import hashlib
from pathlib import Path

import pytest

from lockgate.protocol.avp import Avp
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.pulse.client_facts import read_client, read_host_info
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.codes import AVP_VENDOR, Code
from lockgate.protocol.pulse.extensions import (
    CAPABILITIES,
    ESP_CROSS,
    ESP_GCM,
    capability_words,
    known_capabilities,
    resume_message,
)
from lockgate.protocol.secret import Secret
from tests.transcripts.transcript import FOLDER, FromClient, read


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (b"esp-gcm,esp-cross,esp-probe,resume-proof,session-options,split-networks", CAPABILITIES),
        (b"esp-gcm,teleport,ESP-PROBE,,esp-cross-2, esp-probe", {ESP_GCM}),
        (b"esp-gcm,esp-gcm,\xff", {ESP_GCM}),
        (b"x," * 1900 + b"esp-cross", {ESP_CROSS}),
        (b"", set()),
    ],
)
def test_unknown_words_are_kept_out(value: bytes, known: set[str]) -> None:
    assert known_capabilities(value) == known


def test_capabilities_of_a_client() -> None:
    host = read_host_info(b"clientHostName=laptop1 lockgateCapabilities=esp-gcm,new clientIp=10.0.0.1\n\0")
    assert (host.name, host.address, host.capabilities) == ("laptop1", "10.0.0.1", {ESP_GCM})
    assert read_client([], host).capabilities == {ESP_GCM}
    assert read_host_info(b"clientHostName=laptop1\n\0").capabilities == frozenset()


def test_what_we_say_is_what_we_understand() -> None:
    for capabilities in (CAPABILITIES, {ESP_GCM}, set()):
        assert known_capabilities(capability_words(capabilities).encode()) == capabilities
    with pytest.raises(UsageError):
        capability_words(["teleport"])


@pytest.mark.parametrize(
    ("code", "length", "field"), [(Code.SESSION_KEY, 32, "public_key"), (Code.RESUME_PROOF, 64, "proof")]
)
def test_keys_and_proofs_have_their_length_or_the_client_goes(code: Code, length: int, field: str) -> None:
    host = read_host_info(b"")
    pair = Avp(code, bytes(range(length)), AVP_VENDOR)
    assert getattr(read_client([pair], host), field) == pair.data
    assert getattr(read_client([], host), field) == b""
    for wrong in (0, length - 1, length + 1, 96 - length):
        with pytest.raises(PeerError):
            read_client([Avp(code, bytes(wrong), AVP_VENDOR)], host)
    with pytest.raises(PeerError):
        read_client([pair, pair], host)


def test_a_launch_handle_has_its_length_and_no_cookie_beside_it() -> None:
    host = read_host_info(b"")
    pair = Avp(Code.LAUNCH_HANDLE, bytes(range(32)), AVP_VENDOR)
    assert read_client([pair], host).handle == Secret(bytes(range(32)))
    assert read_client([], host).handle is None
    for wrong in (0, 31, 33):
        with pytest.raises(PeerError):
            read_client([Avp(Code.LAUNCH_HANDLE, bytes(wrong), AVP_VENDOR)], host)
    for others in ([pair], [Avp(Code.COOKIE, b"cookie", AVP_VENDOR)]):
        with pytest.raises(PeerError):
            read_client([pair, *others], host)
    with pytest.raises(UsageError):
        ClientIntroduction("laptop", "", "Lockgate/0", cookie=Secret(b"c"), handle=Secret(bytes(32)))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_other_clients_send_no_launch_handle(file: Path) -> None:
    spoken = b"".join(step.frame.body for step in read(file.read_text()) if isinstance(step, FromClient))
    assert Code.LAUNCH_HANDLE.to_bytes(4, "big") not in spoken


def test_what_a_proof_signs() -> None:
    message = resume_message(bytes(range(32)), Secret(b"cookie"))
    assert message == b"lockgate-resume-v1\0" + bytes(range(32)) + hashlib.sha256(b"cookie").digest()
    assert resume_message(bytes(32), Secret(b"cookie")) != message
    with pytest.raises(UsageError):
        resume_message(b"", Secret(b"cookie"))
