"""Our client against the server's side of every recording.

Of openconnect's recordings: with the same facts and the same answers it says byte for byte what openconnect
said. Of our own recordings: both sides, and they are what a run gives today.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lockgate.protocol.avp import Avp, decode_avps
from lockgate.protocol.eap import decode_eap
from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse import client_events as events
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.codes import EAP_MESSAGE, Code
from lockgate.protocol.pulse.esp_keys import decode_answer
from lockgate.protocol.pulse.extensions import resume_message
from lockgate.protocol.secret import Secret
from tests.transcripts import own
from tests.transcripts.scenarios import COOKIE
from tests.transcripts.transcript import (
    FOLDER,
    Command,
    FromClient,
    FromServer,
    Step,
    introduce,
    read,
    replay,
    replay_client,
)

RECORDED = sorted(FOLDER.glob("*.txt"))
OWN = sorted(own.OWN.glob("*.txt"))
DATA = 4


def avps_of(frame: Frame) -> list[Avp]:
    return decode_avps(decode_eap(frame.body[4:]).data)


def data_of(frame: Frame, code: int) -> bytes | None:
    return next((pair.data for pair in avps_of(frame) if pair.code == code), None)


def passwords_in(frame: Frame) -> list[Secret]:
    """What follows `02` in the inner packet: tag, length + 2, password."""
    packet, found, at = decode_eap(data_of(frame, EAP_MESSAGE) or b""), [], 1
    while at < len(packet.data):
        length = packet.data[at + 1]
        found.append(Secret(packet.data[at + 2 : at + length]))
        at += length
    return found


def text_of(frame: Frame, code: int) -> str:
    return (data_of(frame, code) or b"").decode()


def facts_of(steps: list[Step]) -> dict[str, Any]:
    """What openconnect told about itself."""
    frames = [step.frame for step in steps if isinstance(step, FromClient)]
    words = dict(word.split("=", 1) for word in frames[1].body.rstrip(b"\n\0").decode().split())
    facts = {
        "host_name": words["clientHostName"],
        "client_address": words["clientIp"],
        "user_agent": text_of(frames[3], Code.USER_AGENT),
    }
    cookie = data_of(frames[3], Code.COOKIE)
    return facts if cookie is None else {**facts, "cookie": cookie}


def imitate(client: ClientConversation, question: Any, said: Frame) -> None:
    """Give the answer that openconnect gave in `said`."""
    if (said.vendor, said.kind) == (0xA4C, 0x89):
        client.log_out()
        return
    match question:
        case events.RealmAsked():
            client.answer_realm(text_of(said, Code.REALM))
        case events.CredentialsAsked(username=wanted):
            client.answer_credentials(text_of(said, Code.USER_NAME) if wanted else None, *passwords_in(said))
        case events.NewPasswordAsked():
            client.answer_new_password(*passwords_in(said))
        case events.TokenAsked(username=wanted):
            code = Secret(decode_eap(data_of(said, EAP_MESSAGE) or b"").data)
            client.answer_token(text_of(said, Code.USER_NAME) if wanted else None, code)
        case events.SessionAsked():
            client.answer_session(text_of(said, Code.SESSION_CHOICE))
        case events.NoticeShown():
            client.accept_notice()
        case events.EspOffered():
            client.answer_esp(decode_answer(said.body))
        case _:
            raise AssertionError(f"openconnect spoke after {question}")


def compare(steps: list[Step]) -> Iterator[tuple[Frame, Frame, str]]:
    """openconnect's frames and ours, and the names of the events before them."""
    client = introduce(facts_of(steps))
    client.start()
    ours = client.take_frames()
    open_question: Any = None
    seen: list[str] = []
    for step in steps:
        match step:
            case FromServer(frame):
                for event in client.receive(frame):
                    seen.append(type(event).__name__)
                    if not isinstance(event, events.Configured | events.ConfigurationEnded | events.Licence):
                        open_question = event
                ours += client.take_frames()
            case FromClient(frame) if (frame.vendor, frame.kind) != (0xA4C, DATA):
                if not ours:
                    imitate(client, open_question, frame)
                    open_question = None
                    ours += client.take_frames()
                yield frame, ours.pop(0), " ".join(seen)
    yield Frame(0, 0, b""), Frame(0, 0, b""), " ".join(seen)
    assert not ours or client.ended


MEANING = {  # what the server was told to do, and what we make of it
    "ask_realm": "RealmAsked",
    "ask_realm_name": "RealmAsked",
    "ask_credentials": "CredentialsAsked",
    "ask_new_password": "NewPasswordAsked",
    "ask_token": "TokenAsked",
    "ask_session": "SessionAsked",
    "notify": "NoticeShown",
    "refuse": "SignInRefused",
    "fail": "SignInFailed",
    "signed_in": "SignedIn Authenticated",
    "configure": "Configured",
    "offer_esp": "EspOffered",
    "end_configuration": "ConfigurationEnded",
    "nudge_esp": "Licence",
    "tell_remaining": "EndMoved",
    "tell_split_networks": "SplitNetworksMoved",
    "fatal": "Fatal",
}


def expected(steps: list[Step]) -> str:
    names = [MEANING[step.name] for step in steps if isinstance(step, Command)]
    if "cookie" in facts_of(steps) and names[0] != "SignedIn Authenticated":
        names[0] = "CookieRefused"
    return " ".join(["ServerIntroduced", *names])


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_we_say_what_openconnect_said(file: Path) -> None:
    steps = read(file.read_text())
    *compared, (_, _, seen) = compare(steps)
    assert len(compared) >= 4
    for theirs, ours, _ in compared:
        assert (ours, ours.body) == (theirs, theirs.body)
    assert seen == expected(steps)


def test_every_recording_of_our_own_has_its_scenario() -> None:
    assert {file.stem for file in OWN} == {scenario.name for scenario in own.SCENARIOS}


@pytest.mark.parametrize("scenario", own.SCENARIOS, ids=lambda scenario: scenario.name)
def test_our_own_recordings(scenario: own.OwnScenario) -> None:
    recorded = (own.OWN / f"{scenario.name}.txt").read_text()
    assert own.text(scenario) == recorded
    for side in (replay, replay_client):
        steps = list(side(read(recorded)))
        assert len(steps) > 10
        for golden, produced in steps:
            assert produced == golden


def test_the_recorded_proof_is_one() -> None:
    lines = (own.OWN / "resume-proof.txt").read_text().splitlines()
    [line] = [line for line in lines if "d: introduce" in line]
    [step] = read(line)
    proof = step.arguments[0]["proof"]  # type: ignore[union-attr]
    key = Ed25519PublicKey.from_public_bytes(own.KEY.public_key().public_bytes_raw())
    key.verify(proof, resume_message(own.EXPORTER, Secret(COOKIE)))
