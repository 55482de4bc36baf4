"""The text form of a recorded conversation, and its replay through the core.

    # remarks; the head of the file names peer, version and date
    C> 5597/1 version request          a frame of the client: vendor/type in hex, remark
        0000: 00 01 02 02              |....|
    E: ClientReady(…)                  what the core makes of it
    D: ask_realm(["Users"])            a command given to the core
    S< 5597/5 challenge                a frame the core sends because of it
    X: SIGINT to the client            something outside the conversation

Recordings of our own client with our own server (`own`) have its side too:

    d: start()                         a command given to the core of the client
    e: RealmAsked(…)                   what it makes of a frame of the server

Secrets are placeholders of the same length. In `E:` lines they are written out (they are no secrets here),
so that a replay checks them too.
"""

import ast
import dataclasses
import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from lockgate.protocol.if_t import Frame
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.pulse.questions import SessionOffer
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret
from tests.transcripts.configurations import CONFIGURATIONS

FOLDER = Path(__file__).parent
KINDS = {
    (0x5597, 1): "version request",
    (0x5597, 2): "version response",
    (0x5597, 5): "challenge",
    (0x5597, 6): "response",
    (0x5597, 7): "success",
    (0xA4C, 0x01): "configuration or ESP keys",
    (0xA4C, 0x04): "data",
    (0xA4C, 0x05): "ESP ready",
    (0xA4C, 0x88): "client information",
    (0xA4C, 0x89): "logout",
    (0xA4C, 0x8F): "end of configuration",
    (0xA4C, 0x93): "fatal error",
    (0xA4C, 0x96): "licence information",
    (0xA4C, 0x4C01): "seconds to the end of the session",
    (0xA4C, 0x4C02): "split-tunnel networks",
}
_FRAME = re.compile(r"([0-9a-f]+)/([0-9a-f]+)\b")


@dataclasses.dataclass(frozen=True)
class FromClient:
    frame: Frame


@dataclasses.dataclass(frozen=True)
class FromServer:
    frame: Frame


@dataclasses.dataclass(frozen=True)
class Event:
    text: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A method of ServerConversation with arguments; see `call` for their forms."""

    name: str
    arguments: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outside:
    """What was done to the client or its connection, not to the conversation."""

    text: str


@dataclasses.dataclass(frozen=True)
class ClientEvent:
    text: str


@dataclasses.dataclass(frozen=True)
class ClientCommand:
    """A method of ClientConversation, or first of all `introduce`; see `call_client`."""

    name: str
    arguments: tuple[Any, ...] = ()


Step = FromClient | FromServer | Event | Command | Outside | ClientEvent | ClientCommand


def call(conversation: ServerConversation, command: Command) -> None:
    """Carry out a command: configurations are given by name, cookies and ESP secrets as bytes."""
    match command.name, command.arguments:
        case "configure", (name,):
            conversation.configure(CONFIGURATIONS[name])
        case "offer_esp", (spi, secret):
            conversation.offer_esp(spi, Secret(secret))
        case "signed_in", (cookie, remaining, idle):
            conversation.signed_in(Secret(cookie), remaining, idle)
        case "tell_split_networks", (include, exclude):
            conversation.tell_split_networks(*(tuple(map(ip_network, each)) for each in (include, exclude)))
        case "ask_session", offers:
            conversation.ask_session(SessionOffer(*offer) for offer in offers)
        case name, arguments:
            options = dict(arguments[-1]) if arguments and isinstance(arguments[-1], dict) else {}
            positional = arguments[:-1] if options else arguments
            getattr(conversation, name)(*positional, **options)


def introduce(facts: dict[str, Any]) -> ClientConversation:
    """A client with these facts; cookie and handle as bytes, the capabilities in any order."""
    secrets = {key: Secret(facts[key]) for key in ("cookie", "handle") if key in facts}
    capabilities = frozenset(facts.get("capabilities", ()))
    return ClientConversation(ClientIntroduction(**{**facts, **secrets, "capabilities": capabilities}))


def call_client(conversation: ClientConversation, command: ClientCommand) -> None:
    """Carry out a command: secrets are given as bytes."""
    match command.name, command.arguments:
        case "answer_esp", (spi, secret):
            conversation.answer_esp(EspKeys(spi, Secret(secret)))
        case name, arguments:
            secrets = (Secret(a) if isinstance(a, bytes) else a for a in arguments)
            getattr(conversation, name)(*secrets)


def describe(event: object) -> str:
    """The event as one line, secrets written out: every secret in a transcript is a placeholder.

    A field at its default is left out, so that a new one changes no recording.
    """
    return _shown(event)


def _shown(value: object) -> str:
    if isinstance(value, Secret):
        return repr(value.reveal())
    if isinstance(value, frozenset):
        return f"{{{', '.join(map(repr, sorted(value)))}}}"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    parts = [
        f"{field.name}={_shown(getattr(value, field.name))}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(parts)})"


def replay(steps: Iterable[Step]) -> Iterator[tuple[Step, Step]]:
    """Feeds what the client sent and the commands to a fresh core; yields (recorded, produced)
    for every event and every frame of the server."""
    conversation = ServerConversation("Test-Server-Info")
    events: list[str] = []
    frames: list[Frame] = []
    for step in steps:
        match step:
            case FromClient(frame):
                assert not events
                assert not frames
                events += map(describe, conversation.receive(frame))
                frames += conversation.take_frames()
            case Event(text):
                yield step, Event(events.pop(0) if events else "nothing")
            case FromServer(frame):
                yield step, FromServer(frames.pop(0) if frames else Frame(0, 0, b""))
            case Command():
                assert not events
                assert not frames
                call(conversation, step)
                frames += conversation.take_frames()
            case Outside() | ClientEvent() | ClientCommand():
                pass
    for text in events:
        yield Event("nothing"), Event(text)
    for frame in frames:
        yield FromServer(Frame(0, 0, b"")), FromServer(frame)


def replay_client(steps: Iterable[Step]) -> Iterator[tuple[Step, Step]]:
    """The same for the client's side of a recording that has it."""
    steps = list(steps)
    first = steps.pop(0)
    assert isinstance(first, ClientCommand)
    assert first.name == "introduce"
    conversation = introduce(*first.arguments)
    events: list[str] = []
    frames: list[Frame] = []
    for step in steps:
        match step:
            case FromServer(frame):
                events += map(describe, conversation.receive(frame))
                frames += conversation.take_frames()
            case ClientEvent():
                yield step, ClientEvent(events.pop(0) if events else "nothing")
            case ClientCommand():
                call_client(conversation, step)
                frames += conversation.take_frames()
            case FromClient():
                yield step, FromClient(frames.pop(0) if frames else Frame(0, 0, b""))
    for text in events:
        yield ClientEvent("nothing"), ClientEvent(text)
    for frame in frames:
        yield FromClient(Frame(0, 0, b"")), FromClient(frame)


def write(steps: Iterable[Step], head: Iterable[str]) -> str:
    """The file: `head` as remarks, then the steps."""
    lines = [f"# {line}".rstrip() for line in head] + [""]
    for step in steps:
        match step:
            case FromClient(frame):
                lines += ["", *_frame_lines("C>", frame)]
            case FromServer(frame):
                lines += _frame_lines("S<", frame)
            case Event(text):
                lines.append(f"E: {text}")
            case ClientEvent(text):
                lines.append(f"e: {text}")
            case Command(name, arguments):
                lines += ["", f"D: {name}({', '.join(map(repr, arguments))})"]
            case ClientCommand(name, arguments):
                lines += ["", f"d: {name}({', '.join(map(repr, arguments))})"]
            case Outside(text):
                lines += ["", f"X: {text}"]
    return "\n".join(lines) + "\n"


def read(text: str) -> list[Step]:
    """The steps of a file."""
    steps: list[Step] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("    "):
            last = steps[-1]
            assert isinstance(last, FromClient | FromServer), line
            more = bytes.fromhex(line.split("|")[0].split(":")[1])
            steps[-1] = type(last)(dataclasses.replace(last.frame, body=last.frame.body + more))
            continue
        mark, rest = line[:2], line[3:]
        match mark:
            case "C>" | "S<":
                found = _FRAME.match(rest)
                assert found is not None, line
                frame = Frame(int(found[1], 16), int(found[2], 16), b"")
                steps.append(FromClient(frame) if mark == "C>" else FromServer(frame))
            case "E:":
                steps.append(Event(rest))
            case "e:":
                steps.append(ClientEvent(rest))
            case "D:" | "d:":
                name, _, arguments = rest.partition("(")
                kind = Command if mark == "D:" else ClientCommand
                steps.append(kind(name, tuple(ast.literal_eval(f"[{arguments[:-1]}]"))))
            case "X:":
                steps.append(Outside(rest))
            case _:
                raise AssertionError(f"not a line of a transcript: {line!r}")
    return steps


def _frame_lines(mark: str, frame: Frame) -> list[str]:
    lines = [f"{mark} {frame.vendor:x}/{frame.kind:x} {KINDS.get((frame.vendor, frame.kind), 'unknown')}"]
    for at in range(0, len(frame.body), 16):
        row = frame.body[at : at + 16]
        shown = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x7C else "." for b in row)
        lines.append(f"    {at:04x}: {row.hex(' '):47}  |{shown}|")
    return lines
