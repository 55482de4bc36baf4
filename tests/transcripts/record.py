"""Records golden transcripts from the real openconnect, or compares it with them.

    python tests/transcripts/record.py [SCENARIO …]           writes tests/transcripts/SCENARIO.txt
    python tests/transcripts/record.py --check [SCENARIO …]   runs openconnect again and compares

A small TLS server on loopback, with a certificate made on the spot, drives the server conversation
directly. No tunnel device and no privilege is needed: openconnect hands its packets to a script, which
drops them.
"""

import argparse
import datetime
import ipaddress
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lockgate.protocol.if_t import Frame, FrameReader, encode_frame
from lockgate.protocol.pulse import esp_keys
from lockgate.protocol.pulse.server import ServerConversation
from tests.transcripts.scenarios import SCENARIOS, Close, Interrupt, Scenario
from tests.transcripts.transcript import (
    FOLDER,
    Command,
    Event,
    FromClient,
    FromServer,
    Outside,
    Step,
    call,
    describe,
    read,
    write,
)

DEADLINE = 30.0  # seconds for one run of openconnect; a good one takes 0.3
PLACEHOLDER_SPI = 0xC1C1C1C1
PLACEHOLDER_SECRET = b"ESP secret of the client, replaced by the recorder.".ljust(64, b".")
HEAD_END = b"\r\n\r\n"
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Content-type: application/octet-stream\r\n"
    b"Upgrade: IF-T/TLS 1.0\r\n"
    b"Connection: Upgrade\r\n\r\n"
)


class Differs(Exception):
    """The client did something else than the scenario or its golden file says."""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Files of a self-signed certificate for gw.test and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("gw.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "server.pem", folder / "server.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain, private


def without_volatile(frame: Frame) -> Frame:
    """The frame with placeholders where the client puts random numbers: its ESP keys."""
    if (frame.vendor, frame.kind) != (0xA4C, 1):
        return frame
    esp_keys.decode_answer(frame.body)
    body = bytearray(frame.body)
    body[0x24:0x28] = PLACEHOLDER_SPI.to_bytes(4, "little")
    body[0x2A:0x6A] = PLACEHOLDER_SECRET
    return Frame(frame.vendor, frame.kind, bytes(body))


class Gateway:
    """Serves one connection of a scenario and notes every step."""

    def __init__(self, scenario: Scenario, context: ssl.SSLContext) -> None:
        self.steps: list[Step] = []
        self.error: BaseException | None = None
        self.client: Client | None = None
        self.turns = list(scenario.turns)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="gateway")

    def __enter__(self) -> "Gateway":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(2 * DEADLINE)
        self._listener.close()

    def _run(self) -> None:
        try:
            plain, _ = self._listener.accept()
            plain.settimeout(DEADLINE)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, server_side=True) as stream:
                self._serve(stream)
        except BaseException as error:  # told to the main thread
            self.error = error

    def _serve(self, stream: ssl.SSLSocket) -> None:
        head = b""
        while HEAD_END not in head:
            if not (data := stream.recv(4096)) or len(head) > 8192:
                raise Differs("the client sent no HTTP head")
            head += data
        head, _, rest = head.partition(HEAD_END)
        if b"\r\nUpgrade: IF-T/TLS 1.0" not in head:
            raise Differs("the client did not ask for the upgrade")
        stream.sendall(UPGRADED)
        conversation = ServerConversation("Test-Server-Info")
        reader = FrameReader()
        reader.feed(rest)
        self._sequence = 0
        while True:
            while (received := reader.next_frame()) is not None:
                frame = without_volatile(received.frame)
                self.steps.append(FromClient(frame))
                for event in conversation.receive(frame):
                    self.steps.append(Event(describe(event)))
                    self._send(stream, conversation)
                    if not self._react(stream, conversation, type(event).__name__):
                        return
                self._send(stream, conversation)
            try:
                data = stream.recv(16384)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                self.steps.append(Outside("the client closes the connection"))
                return
            reader.feed(data)

    def _react(self, stream: ssl.SSLSocket, conversation: ServerConversation, event: str) -> bool:
        """What the scenario has for this event; False ends the connection."""
        if not self.turns:
            raise Differs(f"{event} after the end of the scenario")
        expected, actions = self.turns.pop(0)
        if event != expected:
            raise Differs(f"{event} instead of {expected}")
        for action in actions:
            match action:
                case Command():
                    self.steps.append(action)
                    call(conversation, action)
                    self._send(stream, conversation)
                case Interrupt():
                    self.steps.append(Outside(action.text))
                    assert self.client is not None
                    self.client.interrupt_once_configured()
                case Close():
                    self.steps.append(Outside(action.text))
                    return False
        return True

    def _send(self, stream: ssl.SSLSocket, conversation: ServerConversation) -> None:
        for frame in conversation.take_frames():
            self.steps.append(FromServer(frame))
            stream.sendall(encode_frame(frame, self._sequence))  # one write: one TLS record
            self._sequence += 1


class Client:
    """The running openconnect, its output collected as it comes."""

    def __init__(self, command: list[str], stdin: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin)
        self._process.stdin.close()
        self.output = ""
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._collect, name="output")
        self._thread.start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self.output += line
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def interrupt_once_configured(self) -> None:
        """SIGINT; not before the tunnel is up, or the client may not notice it."""
        with self._news:
            if not self._news.wait_for(lambda: "Configured as" in self.output or self._ended, DEADLINE):
                raise Differs("openconnect did not configure its tunnel")
        self._process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """The exit code; Differs if there is none in time."""
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Differs("openconnect did not end") from None
        finally:
            self._process.kill()
            self._process.wait()
            self._thread.join(DEADLINE)


def run(scenario: Scenario) -> list[Step]:
    """One run of the real client; the steps it went through."""
    with tempfile.TemporaryDirectory() as name:
        chain, key = make_certificate(Path(name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        with Gateway(scenario, context) as gateway:
            command = scenario.command(gateway.port, str(chain))
            client = gateway.client = Client(command, scenario.stdin)
            code = client.wait()
    if gateway.error is not None:
        raise Differs(f"{gateway.error}\n{client.output}") from gateway.error
    if code != scenario.exit_code:
        raise Differs(f"openconnect ended with {code}, expected {scenario.exit_code}\n{client.output}")
    for text in scenario.says:
        if text not in client.output:
            raise Differs(f"openconnect did not say {text!r}\n{client.output}")
    if gateway.turns:
        raise Differs(f"{len(gateway.turns)} turns of the scenario were not reached\n{client.output}")
    return gateway.steps


def openconnect_version() -> str:
    """Version and TLS library, as `openconnect --version` says it."""
    output = subprocess.run(["openconnect", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version v?(\S+)", output)
    library = re.search(r"Using (.*?)\. ", output)
    return f"{version[1] if version else 'unknown'} ({library[1] if library else 'unknown TLS library'})"


def head(scenario: Scenario) -> list[str]:
    return [
        scenario.title,
        "",
        "peer:     openconnect",
        f"version:  {openconnect_version()}",
        f"date:     {datetime.date.today().isoformat()}",
        "volatile: the client's ESP keys; placeholders stand for them",
        f"command:  {' '.join(scenario.shown_command())}",
        f"stdin:    {scenario.stdin!r}",
        f"exit:     {scenario.exit_code}; says {', '.join(map(repr, scenario.says)) or 'nothing special'}",
    ]


def check(scenario: Scenario) -> None:
    """Raises Differs unless the client does today what the golden file says."""
    golden = read((FOLDER / f"{scenario.name}.txt").read_text())
    now = run(scenario)
    for number, (was, is_) in enumerate(zip(golden, now, strict=False)):
        if was != is_:
            raise Differs(f"step {number} of {scenario.name}:\n  recorded {was}\n  now      {is_}")
    if len(golden) != len(now):
        raise Differs(f"{scenario.name} had {len(golden)} steps, now {len(now)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("scenario", nargs="*", help="default: all", metavar="SCENARIO")
    options = parser.parse_args()
    if unknown := set(options.scenario) - {s.name for s in SCENARIOS}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    wrong = 0
    for scenario in SCENARIOS:
        if options.scenario and scenario.name not in options.scenario:
            continue
        try:
            if options.check:
                check(scenario)
            else:
                (FOLDER / f"{scenario.name}.txt").write_text(write(run(scenario), head(scenario)))
        except Differs as error:
            wrong += 1
            print(f"{scenario.name}: {error}", file=sys.stderr)
        else:
            print(f"{scenario.name}: {'as recorded' if options.check else 'written'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
