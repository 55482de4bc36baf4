"""`python -m tests.lab.rogue --listen A:P --cert C --key K --script NAME`: a gateway that misbehaves.

Speaks TLS and IF-T as a gateway does, any password is right, and packets go nowhere; `--script` names what
it does otherwise (`--list` shows all of `rogue_scripts`). The first `--honest` connections see an honest
gateway. SIGUSR1 closes all connections, so that clients come back. Prints `ready PORT`, then what happens.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path

from lockgate.protocol.errors import PeerError
from lockgate.protocol.if_t import FrameReader, encode_frame
from lockgate.protocol.pulse.config import EspCipher, EspHmac, EspOffer, TunnelConfig
from lockgate.protocol.pulse.events import (
    ClientReady,
    EspKeysAnswered,
    EspReady,
    LoggedOut,
    SignInAcknowledged,
)
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.secret import Secret
from tests.lab.rogue_scripts import SCRIPTS, Act, Done, Ends, Script, Step
from tests.lab.rogue_tls import other_context, server_context, server_flight

COOKIE = Secret(b"0123456789abcdef0123456789abcdef")
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: IF-T/TLS 1.0\r\nConnection: Upgrade\r\n\r\n"
SPI = 0x0BADCAFE
PATIENCE = 600.0  # seconds a connection without a word is kept
HONEST = Script("an honest gateway")

# What a conversation has said when it is in this state.
_AFTER = {
    "client information": Step.VERSION,
    "identity": Step.CHALLENGE,
    "client facts": Step.FACTS,
    "configuring": Step.SUCCESS,
}


CONFIG = TunnelConfig(
    mtu=1400,
    address4=IPv4Address("10.88.0.5"),
    dns=(IPv4Address("10.77.0.53"),),
    include=(IPv4Network("10.77.0.0/16"),),
    esp=EspOffer(EspCipher.AES128_CBC, EspHmac.SHA1, 4500),
)
"""What scripts change something in. Nobody answers at the ESP port."""


class _Over(Exception):
    """The deed is done: close now."""


class Connection:
    """One client, served in a thread of its own."""

    def __init__(self, rogue: Rogue, number: int, raw: socket.socket, script: Script) -> None:
        self._rogue, self._number, self._raw, self._script = rogue, number, raw, script
        raw.settimeout(PATIENCE)
        self._ends = Ends(ip_address(raw.getsockname()[0]), ip_address(raw.getpeername()[0]))
        self._conversation = ServerConversation()
        self._sent = 0  # frames

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            # That of SSLSocket would take the TLS state from under the thread that reads.
            socket.socket.shutdown(self._raw, socket.SHUT_RDWR)

    def serve(self) -> None:
        """Until the deed is done or the client has gone."""
        try:
            if self._script.tls:
                self._break_handshake()
            with self._rogue.context(self._number).wrap_socket(self._raw, server_side=True) as tls:
                self._raw = self._tls = tls
                self._tell("tls")
                self._read_request()
                self._speak(Step.HTTP, ANSWER)
                self._converse()
        except _Over:
            pass
        except PeerError as error:
            self._tell(f"the client broke the protocol: {error}")
        except OSError as error:
            self._tell(f"lost: {type(error).__name__}")
        finally:
            self._raw.close()
            self._tell("closed")

    def _tell(self, text: str) -> None:
        self._rogue.tell(f"{self._number}: {text}")

    def _break_handshake(self) -> None:
        hello = b"" if self._script.tls == "silent" else self._raw.recv(1 << 16)
        flight = server_flight(self._rogue.context(self._number), hello) if hello else b""
        self._tell(f"deed: {self._script.tls} in the handshake")
        match self._script.tls:
            case "stall":
                self._raw.sendall(flight[: len(flight) // 2])
            case "close":
                self._raw.sendall(flight[: len(flight) // 2])
                raise _Over
            case "garbage":
                self._raw.sendall(b"\x16\x03\x03\x02\x00" + bytes(range(256)) * 2)
            case "reset":
                self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise _Over
        self._hold(self._raw)

    def _hold(self, stream: socket.socket) -> None:
        """Silence until the client leaves."""
        while stream.recv(1 << 16):
            pass
        raise _Over

    def _read_request(self) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            chunk = self._tls.recv(4096)
            if not chunk or len(request) > 1 << 16:
                raise PeerError("no HTTP request")
            request += chunk

    def _speak(self, step: Step, honest: bytes) -> None:
        deed = self._script.deeds.get(step)
        done = deed(honest) if deed else Done(honest, Act.GO_ON)
        if deed:
            self._tell(f"deed: {step}")
        if self._script.drips:
            for byte in done.data:
                self._tls.sendall(bytes([byte]))
                time.sleep(self._rogue.drip)
        elif done.data:
            self._tls.sendall(done.data)
        if not deed:
            self._tell(step)
        if done.then is Act.CLOSE:
            raise _Over
        if done.then is Act.STALL:
            self._hold(self._tls)

    def _flush(self, step: Step) -> None:
        for frame in self._conversation.take_frames():
            if step is Step.CONFIG:
                frame = type(frame)(frame.vendor, frame.kind, self._script.encoded(frame.body))
            self._speak(step, encode_frame(frame, self._sent))
            self._sent += 1

    def _converse(self) -> None:
        reader = FrameReader()
        while data := self._tls.recv(1 << 16):
            reader.feed(data)
            while received := reader.next_frame():
                # Questions without end are more than an honest gateway would let a client answer.
                self._conversation._frames_before_tunnel = 0
                events = self._conversation.receive(received.frame)
                self._flush(_AFTER.get(self._conversation.state, Step.QUESTION))
                for event in events:
                    self._react(event)

    def _react(self, event: object) -> None:
        talk = self._conversation
        match event:
            case LoggedOut():
                self._tell("logged out")
                raise _Over
            case ClientReady(cookie=cookie) if cookie == COOKIE:
                self._tell("resumed")
                self._sign_in()
            case EspKeysAnswered():
                self._tell("esp keys")
            case EspReady():
                self._tell("esp ready")
                if self._rogue.patient:
                    self._in_tunnel()
            case SignInAcknowledged():
                self._open_tunnel()
            case _:
                if self._script.ask is not None:
                    self._script.ask(talk)
                    self._flush(Step.QUESTION)
                elif isinstance(event, ClientReady):
                    talk.ask_credentials()
                    self._flush(Step.QUESTION)
                else:
                    self._sign_in()

    def _sign_in(self) -> None:
        self._conversation.signed_in(COOKIE, remaining=3600, idle=600)
        self._flush(Step.COOKIE)

    def _open_tunnel(self) -> None:
        talk = self._conversation
        talk.configure(self._script.config(CONFIG, self._ends))
        self._flush(Step.CONFIG)
        talk.offer_esp(SPI, Secret(bytes(range(64))))
        self._flush(Step.KEYS)
        talk.end_configuration()
        self._flush(Step.END)
        if not self._rogue.patient:
            self._in_tunnel()

    def _in_tunnel(self) -> None:
        self._speak(Step.TUNNEL, b"")
        if self._script.other_certificate and self._number == 1:
            raise _Over


class Rogue:
    """Listens and serves until it is closed; a context manager.

    drip:    seconds between bytes of a script that drips.
    patient: what is done in the tunnel is done when the client, too, is in it; a client without ESP does not
             tell when that is.
    """

    def __init__(
        self,
        address: str,
        port: int,
        certificate: Path,
        key: Path,
        script: str,
        *,
        honest: int = 0,
        drip: float = 1.0,
        patient: bool = False,
    ) -> None:
        self._script, self._honest, self.drip, self.patient = SCRIPTS[script], honest, drip, patient
        self._context = server_context(certificate, key)
        self._other = other_context(certificate) if self._script.other_certificate else self._context
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._threads = [threading.Thread(target=self._accept, name="rogue")]
        self.said: list[str] = []
        """What happened, "NUMBER: …" each; also printed by the program."""
        self.show: Callable[[str], None] = lambda line: None

    def __enter__(self) -> Rogue:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.drop_all()
        for thread in self._threads[1:]:
            thread.join()

    def context(self, number: int) -> ssl.SSLContext:
        return self._context if number == 1 else self._other

    def tell(self, line: str) -> None:
        with self._lock:
            self.said.append(line)
            self.show(line)

    def drop_all(self) -> None:
        """Closes all connections."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.drop()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            script = HONEST if number <= self._honest else self._script
            try:
                connection = Connection(self, number, raw, script)
            except OSError:
                raw.close()  # it was gone before it was served
                continue
            with self._lock:
                self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"rogue {number}")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.lab.rogue")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--listen", metavar="A:P", default="127.0.0.1:443")
    parser.add_argument("--cert", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--script", choices=SCRIPTS, metavar="NAME", default="swallow")
    parser.add_argument("--honest", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    if arguments.list:
        for name, script in SCRIPTS.items():
            print(f"{name:24} {script.says}")
        return
    address, _, port = arguments.listen.rpartition(":")
    rogue = Rogue(
        address.strip("[]"),
        int(port),
        arguments.cert,
        arguments.key,
        arguments.script,
        honest=arguments.honest,
    )
    rogue.show = lambda line: print(line, flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT})
    with rogue:
        print(f"ready {rogue.port}", flush=True)
        while signal.sigwait({signal.SIGUSR1, signal.SIGTERM, signal.SIGINT}) == signal.SIGUSR1:
            rogue.drop_all()


if __name__ == "__main__":
    sys.exit(main())
