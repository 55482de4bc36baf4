"""The text form of a recorded conversation, and its replay through the core.

    # remarks; the head of the file names peer, version and date
    C> 5597/1 version request          a frame of the client: vendor/type in hex, remark
        0000: 00 01 02 02              |....|
    E: ClientReady(…)                  what the core makes of it
    D: ask_realm(["Users"])            a command given to the core
    S< 5597/5 challenge                a frame the core sends because of it
    X: SIGINT to the client            something outside the conversation

Secrets are placeholders of the same length. In `E:` lines they are written out (they are no secrets here),
so that a replay checks them too.
"""

import ast
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lockgate.protocol.if_t import Frame
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


Step = FromClient | FromServer | Event | Command | Outside


def call(conversation: ServerConversation, command: Command) -> None:
    """Carry out a command: configurations are given by name, cookies and ESP secrets as bytes."""
    match command.name, command.arguments:
        case "configure", (name,):
            conversation.configure(CONFIGURATIONS[name])
        case "offer_esp", (spi, secret):
            conversation.offer_esp(spi, Secret(secret))
        case "signed_in", (cookie, remaining, idle):
            conversation.signed_in(Secret(cookie), remaining, idle)
        case "ask_session", offers:
            conversation.ask_session(SessionOffer(*offer) for offer in offers)
        case name, arguments:
            options = dict(arguments[-1]) if arguments and isinstance(arguments[-1], dict) else {}
            positional = arguments[:-1] if options else arguments
            getattr(conversation, name)(*positional, **options)


def describe(event: object) -> str:
    """The event as one line, secrets written out: every secret in a transcript is a placeholder."""
    values = ((f.name, getattr(event, f.name)) for f in dataclasses.fields(event))  # type: ignore[arg-type]
    parts = [f"{name}={v.reveal() if isinstance(v, Secret) else v!r}" for name, v in values]
    return f"{type(event).__name__}({', '.join(parts)})"


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
            case Outside():
                pass
    for text in events:
        yield Event("nothing"), Event(text)
    for frame in frames:
        yield FromServer(Frame(0, 0, b"")), FromServer(frame)


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
            case Command(name, arguments):
                lines += ["", f"D: {name}({', '.join(map(repr, arguments))})"]
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
            case "D:":
                name, _, arguments = rest.partition("(")
                steps.append(Command(name, tuple(ast.literal_eval(f"[{arguments[:-1]}]"))))
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
