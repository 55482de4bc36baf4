"""`python -m tests.fuzz.write_seeds`: first inputs of every target, from transcripts and vectors.

Files named `seed-*` are written anew; everything else in the corpus is kept.
"""

import io
import json
import zipfile
from collections.abc import Iterator

from lockgate.protocol.if_t import encode_frame
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.server.config.seed.render import render
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.tree.system import Gateway
from tests.fuzz import fuzz_pulse_client as client
from tests.fuzz import fuzz_pulse_server as server
from tests.fuzz.harness import FOLDER
from tests.transcripts.own import OWN
from tests.transcripts.transcript import FOLDER as TRANSCRIPTS
from tests.transcripts.transcript import Command, FromClient, FromServer, Step, read
from tests.unit.protocol import test_ncp
from tests.vectors.write_edge_link import FILE as EDGE_LINK

COMMANDS = {
    "ask_realm": 0,
    "ask_realm_name": 1,
    "ask_credentials": 2,
    "ask_new_password": 5,
    "ask_token": 6,
    "ask_session": 8,
    "notify": 9,
    "refuse": 10,
    "fail": 11,
    "signed_in": 12,
    "configure": 13,
    "offer_esp": 14,
    "end_configuration": 15,
    "nudge_esp": 16,
    "fatal": 17,
    "tell_remaining": 18,
    "tell_split_networks": 19,
}

PROXY_ANSWERS = [
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200\r\nVia: 1.1 proxy\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\n"
    b'Proxy-Authenticate: Basic realm="proxy"\r\nContent-Length: 5\r\n\r\nsorry',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03",
]
URLS = [
    "gw",
    "gw:8443",
    "https://gw.example.org/users/%C3%BC",
    "HTTPS://192.0.2.1:443/",
    "[2001:db8::1]:8443/a",
    "büro.example.org",
    "https://user@gw",
    "http://gw/",
    "0x7f.1",
]
LINKS = [
    "pulsesecureclient://connect?name=Test Connection&server=https://gw.example.org/&userrealm=Users"
    "&username=test_user&store=true",
    "pulsesecureclient://connect?name=Office&server=https://gw:8443/staff/"
    "&handle=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    "pulsesecureclient://connect/?name=B%C3%BCro%20%26%20Co&server=[2001:db8::1]:8443&store=False",
    "pulsesecureclient://connect?name=a&name=b&server=http://gw/",
]
GUIDE = FOLDER.parent / "vectors" / "guide.pulsepreconfig"
PAGES = FOLDER.parents[1] / "docs" / "sign-in-pages.md"
EXPRESSIONS = [
    'group = ("Staff", "Dev*") AND NOT sourceIP in 192.0.2.0/24',
    'userAttr.mail = "*@example.com" AND time in 08:00-18:00 AND time.day in Mon-Fri',
    'certDN.OU != "a\\"b\\\\c\\*d" OR certAttr.serialNumber = 42 OR (role = \'x\' AND realm = "y")',
    'userAttr."display name" = "" AND userAttr.level >= -3 AND loginTime.hour < 7',
    'time.date >= 2026-01-01 AND NOT NOT (sourceIP = (10.0.0.0/8, "2001:db8::1") OR userAgent = "*x*y*")',
]


def seeds() -> Iterator[tuple[str, str, bytes]]:
    """Target, name and content of each."""
    for file in [*sorted(TRANSCRIPTS.glob("*.txt")), *sorted(OWN.glob("*.txt"))]:
        steps = read(file.read_text())
        yield from _of_conversation(file.stem, steps)
        yield "pulse_client", file.stem, _of_client(steps)
    for number, vector in enumerate(json.loads(EDGE_LINK.read_text())):
        yield "edge_link", f"{number:02}", bytes.fromhex(vector["hex"])
    for number, answer in enumerate(PROXY_ANSWERS):
        yield "http_connect", f"{number:02}", b"\x40" + answer
    for number, url in enumerate(URLS):
        yield "gateway_url", f"{number:02}", url.encode()
    for number, expression in enumerate(EXPRESSIONS):
        yield "expressions", f"{number:02}", expression.encode()
    for number, link in enumerate(LINKS):
        yield "launch_url", f"{number:02}", link.encode()
    for name in ("GOLDEN", "ANSWER", "MTU"):
        yield "ncp", name.lower(), getattr(test_ncp, name)
    yield "preconfig", "guide", GUIDE.read_bytes()
    page = PAGES.read_text().partition("```html\n")[2].partition("```")[0]
    yield "page_template", "example", page.encode()
    yield "sign_in_archive", "example", _archive({"look/sign-in.html": page, "look/look.css": "p{}"})
    yield "config", "default", render(Seed(gateway=Gateway(hostname="gw.example.org"))).encode()


def _archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return out.getvalue()


def _of_conversation(name: str, steps: list[Step]) -> Iterator[tuple[str, str, bytes]]:
    frames = [step.frame for step in steps if isinstance(step, FromClient | FromServer)]
    yield "if_t", name, b"\x10" + b"".join(encode_frame(frame, 0) for frame in frames[:12])
    for number, frame in enumerate(frames):
        if (frame.vendor, frame.kind) == (0x5597, 6):
            yield "eap", f"{name}-{number}", frame.body[4:]
            if len(frame.body) > 16:
                yield "avp", f"{name}-{number}", frame.body[16:]
        if (frame.vendor, frame.kind) == (0xA4C, 0x4C02):
            yield "split_networks", f"{name}-{number}", frame.body
        if (frame.vendor, frame.kind) == (0xA4C, 1):
            yield "tunnel_config", f"{name}-{number}", frame.body
    script = b"\0"
    for step in steps:
        match step:
            case FromClient(frame):
                script += server.step(server.FRAMES.index((frame.vendor, frame.kind)), frame.body)
            case Command(command):
                script += server.step(server.COMMAND + COMMANDS[command])
    yield "pulse_server", name, script


def _of_client(steps: list[Step]) -> bytes:
    """The server's frames, with an answer behind each question."""
    conversation = ClientConversation(client.introduction(b"\0"))
    conversation.start()
    script = b"\0" + server.step(client.COMMAND)
    for step in steps:
        if not isinstance(step, FromServer):
            continue
        frame = step.frame
        script += server.step(client.FRAMES.index((frame.vendor, frame.kind)), frame.body)
        for event in conversation.receive(frame):
            if (number := client.ANSWERS.get(type(event))) is not None:
                script += server.step(client.COMMAND + number)
                client.COMMANDS[number](conversation)
    return script


def main() -> None:
    written: dict[str, set[bytes]] = {}
    for old in FOLDER.glob("corpus/*/seed-*"):
        old.unlink()
    for target, name, content in seeds():
        if content in written.setdefault(target, set()):
            continue
        written[target].add(content)
        folder = FOLDER / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
