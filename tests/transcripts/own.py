"""Recordings of our client with our server: what only those two say to each other.

    python -m tests.transcripts.own        writes tests/transcripts/own/*.txt anew

Both cores run in memory, without randomness, so a recording is what happens every time.
"""

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lockgate.protocol.pulse.extensions import CAPABILITIES, resume_message
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret
from tests.transcripts import scenarios
from tests.transcripts.scenarios import COOKIE, NEXT_SECRET, NEXT_SPI, OTHER_COOKIE, SECRET, SPI
from tests.transcripts.transcript import (
    FOLDER,
    ClientCommand,
    ClientEvent,
    Command,
    Event,
    FromClient,
    FromServer,
    Step,
    call,
    call_client,
    describe,
    introduce,
    write,
)

OWN = FOLDER / "own"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
EXPORTER = bytes(range(0x80, 0xA0))
HANDLE = b"Launch handle, a placeholder....."[:32]
CLIENT_SPI = 0xC1C1C1C1
CLIENT_SECRET = b"ESP secret of the client, a placeholder.".ljust(64, b".")
NEXT_CLIENT_SPI = 0xD1D1D1D1
NEXT_CLIENT_SECRET = b"Next ESP secret of the client, a placeholder.".ljust(64, b".")
FACTS: dict[str, Any] = {
    "host_name": "laptop1",
    "client_address": "10.99.0.2",
    "user_agent": "Lockgate/0 (Linux)",
    "system": "Linux",
    "locale": "en-US",
    "capabilities": sorted(CAPABILITIES),
}


@dataclass(frozen=True)
class OwnScenario:
    """Commands by the event they follow, in order, for each side."""

    name: str
    title: str
    facts: dict[str, Any]
    server: list[tuple[str, list[Command]]]
    client: list[tuple[str, list[ClientCommand]]] = field(default_factory=list)


def do(name: str, *arguments: Any) -> ClientCommand:
    return ClientCommand(name, arguments)


def tunnel(configuration: str) -> list[Command]:
    return [
        scenarios.do("configure", configuration),
        scenarios.do("offer_esp", SPI, SECRET),
        scenarios.do("end_configuration"),
    ]


PASSWORD = ("CredentialsAsked", [do("answer_credentials", "alice", scenarios.PASSWORD.encode())])
KEYS = ("EspOffered", [do("answer_esp", CLIENT_SPI, CLIENT_SECRET)])
NEXT_KEYS = ("EspOffered", [do("answer_esp", NEXT_CLIENT_SPI, NEXT_CLIENT_SECRET)])

SCENARIOS = [
    OwnScenario(
        "extensions",
        "every extension: capabilities, session key, AES-GCM, both IP versions, proxy, enforcement, another end, other networks",
        {**FACTS, "public_key": KEY.public_key().public_bytes_raw()},
        [
            ("ClientReady", [scenarios.do("ask_credentials")]),
            ("CredentialsGiven", [scenarios.do("signed_in", COOKIE, 3600, 600)]),
            ("SignInAcknowledged", tunnel("every extension")),
            (
                "EspReady",
                [
                    scenarios.do("tell_remaining", 7200),
                    scenarios.do("tell_split_networks", ["10.77.0.0/16", "fd77::5/128"], ["10.77.5.6/32"]),
                    scenarios.do("nudge_esp"),
                ],
            ),
        ],
        [PASSWORD, KEYS, ("Licence", [do("log_out")])],
    ),
    OwnScenario(
        "resume-proof",
        "a resumption by cookie with a proof; the cookie changes, the session is replaced in the end",
        {
            **FACTS,
            "cookie": COOKIE,
            "proof": KEY.sign(resume_message(EXPORTER, Secret(COOKIE))),
        },
        [
            ("ClientReady", [scenarios.do("signed_in", OTHER_COOKIE, 1800, 600)]),
            ("SignInAcknowledged", tunnel("every extension")),
            ("EspReady", [scenarios.do("fatal", 6, "replaced by another session")]),
        ],
        [KEYS],
    ),
    OwnScenario(
        "launch-handle",
        "a session by the handle of the portal's Start: no question is asked",
        {**FACTS, "public_key": KEY.public_key().public_bytes_raw(), "handle": HANDLE},
        [
            ("ClientReady", [scenarios.do("signed_in", COOKIE, 3600, 600)]),
            ("SignInAcknowledged", tunnel("every extension")),
            ("EspReady", [scenarios.do("nudge_esp")]),
        ],
        [KEYS, ("Licence", [do("log_out")])],
    ),
    OwnScenario(
        "rekey",
        "a rekey: keys are offered and answered again, ncmo=1 is not",
        FACTS,
        [
            ("ClientReady", [scenarios.do("ask_credentials")]),
            ("CredentialsGiven", [scenarios.do("signed_in", COOKIE, 3600, 600)]),
            ("SignInAcknowledged", tunnel("captured")),
            ("EspReady", [scenarios.do("offer_esp", NEXT_SPI, NEXT_SECRET)]),
        ],
        [PASSWORD, KEYS, NEXT_KEYS],
    ),
]


def run(scenario: OwnScenario) -> list[Step]:
    """Both cores through the scenario; every turn must be reached."""
    server, client = ServerConversation("Test-Server-Info"), introduce(scenario.facts)
    server_turns, client_turns = list(scenario.server), list(scenario.client)
    steps: list[Step] = [do("introduce", scenario.facts), do("start")]
    client.start()
    while to_server := client.take_frames():
        to_client = []
        for frame in to_server:
            steps.append(FromClient(frame))
            for event in server.receive(frame):
                steps.append(Event(describe(event)))
                sent = server.take_frames()
                if server_turns and server_turns[0][0] == type(event).__name__:
                    for command in server_turns.pop(0)[1]:
                        steps += map(FromServer, sent)
                        to_client += sent
                        steps.append(command)
                        call(server, command)
                        sent = server.take_frames()
                steps += map(FromServer, sent)
                to_client += sent
            sent = server.take_frames()
            steps += map(FromServer, sent)
            to_client += sent
        for event in [event for frame in to_client for event in client.receive(frame)]:
            steps.append(ClientEvent(describe(event)))
            if client_turns and client_turns[0][0] == type(event).__name__:
                for answer in client_turns.pop(0)[1]:
                    steps.append(answer)
                    call_client(client, answer)
    assert not server_turns, server_turns
    assert not client_turns, client_turns
    return steps


def text(scenario: OwnScenario) -> str:
    """The file of a scenario."""
    head = [scenario.title, "", "peers:    our own client and server, by python -m tests.transcripts.own"]
    if "proof" in scenario.facts:
        head += [
            f"key:      Ed25519 private {KEY.private_bytes_raw().hex()}",
            f"exporter: {EXPORTER.hex()}",
        ]
    return write(run(scenario), head)


def main() -> None:
    OWN.mkdir(exist_ok=True)
    for scenario in SCENARIOS:
        (OWN / f"{scenario.name}.txt").write_text(text(scenario))


if __name__ == "__main__":
    main()
