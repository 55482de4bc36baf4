"""Each script of the rogue gateway does what it says, seen by a client over real TLS."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import signal
import socket
import ssl
import subprocess
import sys
import threading
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import HEADER, MAX_FRAME, FrameReader, JuniperKind, encode_frame
from lockgate.protocol.pulse import client_events as says
from lockgate.protocol.pulse.client import ClientConversation
from lockgate.protocol.pulse.client_introduction import ClientIntroduction
from lockgate.protocol.pulse.config import decode_config
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.secret import Secret
from lockgate.server import pki
from tests.lab.rogue import ANSWER, COOKIE, Rogue
from tests.lab.rogue_scripts import FRAMES, SCRIPTS, Step
from tests.lab.waiting import wait_for

REQUEST = b"GET / HTTP/1.1\r\nHost: gw\r\nUpgrade: IF-T/TLS 1.0\r\n\r\n"
STEPS = list(Step)
BY_CONFIG = [name for name in SCRIPTS if name.startswith(("mtu-", "routes-", "inner-", "dns-", "domains-"))]
AT_STEPS = [name for name in SCRIPTS if name.partition("-")[2] in STEPS and not name.startswith("http")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificate and key of an honest gateway."""
    folder = tmp_path_factory.mktemp("rogue")
    made = pki.create("gw", [ip_address("127.0.0.1")], datetime.datetime.now(datetime.UTC))
    (folder / "cert.pem").write_bytes(made.chain)
    (folder / "key.pem").write_bytes(made.key.reveal())
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def start(files):
    """Starts a rogue of this process."""
    with contextlib.ExitStack() as stack:
        yield lambda script, **more: stack.enter_context(
            Rogue("127.0.0.1", 0, *files, script, drip=0.0, **more)
        )


class Client:
    """Signs in as long as the gateway makes sense, and keeps every byte it got."""

    def __init__(self, port, cookie=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._raw = raw.dup()  # the first one becomes part of the next line
        self.tls = context.wrap_socket(raw)
        self.certificate = hashlib.sha256(self.tls.getpeercert(binary_form=True)).hexdigest()
        self.talk = ClientConversation(ClientIntroduction("laptop1", "127.0.0.1", "test", cookie=cookie))
        self.events, self.received = [], b""
        self.problem = ""
        self._sent = itertools.count()
        self._left, self._lock = False, threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tls.close()
        self._raw.close()

    def read(self):
        """What comes next; empty at the end."""
        try:
            data = self.tls.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.received += data
        return data

    def run(self):
        """Goes on until the gateway closes. In the tunnel, and after a senseless word, we leave."""
        self.tls.sendall(REQUEST)
        self.talk.start()
        reader = FrameReader()
        upgraded = False
        while data := self.read():
            if not upgraded and self.received.startswith(ANSWER):
                upgraded, data = True, self.received[len(ANSWER) :]
                self._flush()
            if upgraded and not self.problem:
                reader.feed(data)
                try:
                    while received := reader.next_frame():
                        for event in self.talk.receive(received.frame):
                            self._react(event)
                        self._flush()
                except PeerError as error:
                    self.problem = str(error)
            elif not ANSWER.startswith(self.received[: len(ANSWER)]):
                self.problem = "no upgrade"
            if self.problem or self.talk.state == "tunnel":
                self.leave()

    def _flush(self):
        for frame in self.talk.take_frames():
            with self._lock, contextlib.suppress(OSError):
                # After a failed write OpenSSL would not read either.
                if not self._left:
                    self.tls.sendall(encode_frame(frame, next(self._sent)))

    def _react(self, event):
        self.events.append(event)
        match event:
            case says.CredentialsAsked():
                self.talk.answer_credentials("alice", Secret(b"secret"))
            case says.TokenAsked():
                self.talk.answer_token("alice", Secret(b"1"))
            case says.NoticeShown():
                self.talk.accept_notice()
            case says.RealmAsked(choices):
                self.talk.answer_realm(choices[0])
            case says.EspOffered():
                self.talk.answer_esp(EspKeys(1, Secret(bytes(64))))

    def leave(self):
        """Says nothing more; what the gateway still says can be read."""
        with self._lock, contextlib.suppress(OSError):
            self._left = True
            self._raw.shutdown(socket.SHUT_WR)

    def configuration(self):
        return next(event.config for event in self.events if isinstance(event, says.Configured))

    def body(self, kind):
        """Body of the first frame of this kind, as it came."""
        reader = FrameReader()
        reader.feed(self.received[len(ANSWER) :])
        while received := reader.next_frame():
            if received.frame.kind == kind and received.frame.vendor == 0xA4C:
                return received.frame.body
        raise AssertionError("no such frame")


def visit(rogue, **more):
    """One client from its hello to the gateway's end. It leaves when the deed is done."""
    with Client(rogue.port, **more) as client:
        rogue.show = lambda line: client.leave() if "deed:" in line else None
        client.run()
        wait_for(lambda: rogue.said[-1].endswith("closed"), "the gateway has closed")
        rogue.show = lambda line: None
    return client


@pytest.fixture(scope="module")
def honest(files):
    """What an honest gateway says, step by step."""
    with Rogue("127.0.0.1", 0, *files, "swallow") as rogue:
        client = visit(rogue)
    reader = FrameReader()
    reader.feed(client.received[len(ANSWER) :])
    words = {Step.HTTP: ANSWER}
    for step, number in zip(FRAMES, itertools.count(), strict=False):
        received = reader.next_frame()
        words[step] = encode_frame(received.frame, number)
    assert reader.next_frame() is None
    assert [line.partition(": ")[2] for line in rogue.said] == [
        *("tls", *STEPS, "esp keys", "esp ready", "closed")
    ]
    return words | {Step.TUNNEL: b""}


def test_the_honest_gateway_is_one(start):
    client = visit(start("swallow"))
    assert client.problem == ""
    assert client.configuration().mtu == 1400
    assert client.talk.state == "tunnel"


def test_a_session_is_resumed_by_its_cookie(start):
    rogue = start("swallow")
    client = visit(rogue, cookie=COOKIE)
    assert "1: resumed" in rogue.said
    assert client.talk.state == "tunnel"


@pytest.mark.parametrize("name", AT_STEPS)
def test_a_deed_at_a_step(start, honest, name):
    deed, _, step = name.partition("-")
    client = visit(start(name))
    before = b"".join(honest[earlier] for earlier in STEPS[: STEPS.index(step)])
    assert client.received.startswith(before)
    got, own = client.received[len(before) :], honest[step]
    match deed:
        case "close":
            assert got == own
        case "cut":
            assert got == own[: len(own) // 2]
        case "stall":
            assert got == b""
        case "garbage":
            assert len(got) == 512
            assert int.from_bytes(got[8:12]) > MAX_FRAME  # no frame; and no HTTP either
        case "body":
            assert got[:HEADER] == own[:HEADER]
            assert len(got) == len(own)
            assert got != own
        case "huge":
            assert got[8:12] == b"\xff" * 4
            assert len(got) > MAX_FRAME
        case "short":
            assert got[8:12] == b"\0\0\0\3"
        case "twice":
            assert got.startswith(own + own)
        case "fatal":
            assert got[4:8] == bytes([0, 0, 0, JuniperKind.FATAL])
        case _:
            raise AssertionError(name)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.startswith("http-")])
def test_answers_that_are_no_upgrade(start, name):
    rogue = start(name)
    client = visit(rogue)
    assert client.received.startswith(b"HTTP/1.1 ")
    assert client.problem == "no upgrade"
    assert "1: deed: http" in rogue.said
    status = name.partition("-")[2]
    if status.isdigit():
        assert client.received.split()[1] == status.encode()
        assert b"\r\n\r\n" in client.received
    else:
        assert b"\r\n\r\n" not in client.received
        assert len(client.received) > 100_000


@pytest.mark.parametrize("name", ["tls-silent", "tls-stall", "tls-close", "tls-reset", "tls-garbage"])
def test_handshakes_that_come_to_nothing(start, name):
    rogue = start(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    got = b""
    with socket.create_connection(("127.0.0.1", rogue.port), timeout=30) as raw:
        raw.sendall(outgoing.read())
        wait_for(lambda: any("deed:" in line for line in list(rogue.said)), "the deed is done")
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while data := raw.recv(1 << 16):
                got += data
    if name in ("tls-silent", "tls-reset"):
        assert got == b""
    else:
        assert got[:1] == b"\x16"
        incoming.write(got)
        incoming.write_eof()
        with pytest.raises(ssl.SSLError):
            tls.do_handshake()


@pytest.mark.parametrize(("name", "question"), [
    ("endless-passwords", says.CredentialsAsked),
    ("endless-tokens", says.TokenAsked),
    ("endless-notices", says.NoticeShown),
    ("endless-realms", says.RealmAsked),
])  # fmt: skip
def test_questions_without_end(start, name, question):
    """Until our own client has had enough."""
    client = visit(start(name))
    assert sum(isinstance(event, question) for event in client.events) >= 30
    assert client.problem


@pytest.mark.parametrize("name", ["tricky-notice", "tricky-realms", "tricky-labels"])
def test_questions_that_steer_terminals(start, name):
    assert b"\x1b[2J" in visit(start(name)).received


def _mtu(client):
    body = client.body(JuniperKind.CONFIG)
    return int.from_bytes(body[body.index(b"\x40\x05\0\4") + 4 :][:4])


LAN = ip_network("127.0.0.0/24")
EXPECTED = {
    "routes-everything": lambda c: {ip_network("0.0.0.0/0"), ip_network("::/0")} < set(c.include),
    "routes-halves": lambda c: len(c.include) == 4,
    "routes-none": lambda c: ip_network("0.0.0.0/0") in c.exclude,
    "routes-special": lambda c: ip_network("127.0.0.0/8") in c.include,
    "routes-server": lambda c: ip_network("127.0.0.1/32") in c.include,
    "routes-many": lambda c: len(set(c.include)) == 255,
    "routes-local": lambda c: c.include == (LAN,) and c.address4 in LAN,
    "inner-server": lambda c: c.address4 == IPv4Address("127.0.0.1"),
    "inner-client": lambda c: c.address4 == IPv4Address("127.0.0.1"),
    "inner-loopback": lambda c: c.address4.is_loopback,
    "inner-multicast": lambda c: c.address4.is_multicast,
    "inner-zero": lambda c: c.address4.is_unspecified,
    "dns-silent": lambda c: len(c.dns) == 2 and all(server in c.include[0] for server in c.dns),
    "dns-loopback": lambda c: all(server.is_loopback for server in c.dns),
    "dns-many": lambda c: len(set(c.dns)) == 200,
    "domains-many": lambda c: len(set(c.search_domains)) == 1000,
    "domains-root": lambda c: "." in c.search_domains,
}


@pytest.mark.parametrize("name", BY_CONFIG)
def test_configurations(start, name):
    client = visit(start(name))
    if name.startswith("mtu-"):
        assert _mtu(client) == int(name.partition("-")[2])
    else:
        # By the decoder, not by our client's events: it may refuse some of these.
        assert EXPECTED[name](decode_config(client.body(JuniperKind.CONFIG)))


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("data-flood", JuniperKind.DATA, 1500),
        ("rekey-flood", JuniperKind.CONFIG, 301),
        ("split-often", JuniperKind.SPLIT_NETWORKS, 20),
        ("split-special", JuniperKind.SPLIT_NETWORKS, 1),
        ("split-none", JuniperKind.SPLIT_NETWORKS, 1),
    ],
)
def test_floods(start, name, kind, count):
    client = visit(start(name))
    reader, kinds = FrameReader(), []
    reader.feed(client.received[len(ANSWER) :])
    while received := reader.next_frame():
        kinds.append(received.frame.kind)
    assert kinds.count(kind) == count


def test_frames_of_unknown_kinds(start):
    client = visit(start("unknown-flood"))
    assert client.received.endswith(b"?")
    assert client.talk.ignored > 0
    assert client.problem == ""


def test_single_bytes(start):
    rogue = start("drip")
    with Client(rogue.port) as client:
        client.tls.sendall(REQUEST)
        for expected in ANSWER:
            assert client.read() == bytes([expected])


def test_another_certificate_on_the_second_connection(start):
    rogue = start("other-certificate")
    clients = [visit(rogue) for _ in range(3)]
    assert [client.configuration().mtu for client in clients] == [1400] * 3
    first, second, third = (client.certificate for client in clients)
    assert first != second == third


def test_the_program(files):
    command = [sys.executable, "-m", "tests.lab.rogue", "--listen", "127.0.0.1:0", "--script", "fatal-config"]
    command += ["--cert", str(files[0]), "--key", str(files[1]), "--honest", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline().split()[1])
        with Client(port) as client:
            client.leave = lambda: process.send_signal(signal.SIGUSR1)
            client.run()
        with Client(port, cookie=COOKIE) as client:
            client.run()
            assert isinstance(client.events[-1], says.Fatal)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        said = process.stdout.read()
    assert "1: tunnel\n" in said
    assert "2: deed: config\n" in said
