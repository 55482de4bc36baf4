"""Network Connect clients at the gateway: from the cookie of a sign-in over HTTP to the tunnel and its keys."""

import asyncio
from dataclasses import replace

import pytest

from lockgate.model.problem import Problem, ProblemError
from lockgate.model.session import EndCause
from lockgate.protocol.edge_link import (
    Attach,
    CloseConn,
    Framing,
    InstallEspIn,
    InstallEspOut,
    LinkFrame,
    OpenSession,
    RekeyWanted,
    Suite,
    Transport,
)
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp.config import decode_config
from lockgate.protocol.ncp.messages import KmpKind, decode_keys, encode_keys
from lockgate.protocol.pulse.config import EspHmac
from lockgate.protocol.pulse.esp_keys import EspKeys
from lockgate.protocol.secret import Secret
from lockgate.server.gateway.away import START_PATIENCE
from tests.unit.server.control_subject import tree
from tests.unit.server.gateway_subject import state_of, subject
from tests.unit.server.scripted_edge import Visitor, eventually
from tests.unit.server.support import run

KEYS = EspKeys(0x13B49B5C, Secret(bytes(range(64))))
ACCEPTED = Frame(0, KmpKind.ACCEPT, b"")


class NcpVisitor(Visitor):
    """A client with a cookie, as the edge shows it to the gateway."""

    peer = "192.0.2.9:50000"

    def ask(self, cookie: str) -> None:
        """Asks for its tunnel. cookie: the header."""
        self.edge.say(
            replace(
                self.opened(),
                peer=self.peer,
                path="/dana/js?prot=1&svc=4",
                user_agent="OpenConnect v9.01",
                cookie=Secret.of_text(cookie),
                exporter=Secret(b""),
                framing=Framing.NCP,
            )
        )

    def seen(self) -> list[Frame]:
        return [Frame(each.vendor, each.kind, each.body) for each in self.frames()]

    async def enter(self, cookie: Secret) -> None:
        """From the cookie to the configuration."""
        self.ask(f"DSSIGNIN=url_default; DSID={cookie.reveal_text()}; DSFirstAccess=1")
        assert Frame(0, (await self.next_frame()).kind, b"") == ACCEPTED
        self.send(Frame(0, KmpKind.HOST_NAME, b"laptop1"))
        assert (await self.next_frame()).kind == KmpKind.CONFIG


def test_a_tunnel_is_opened_in_the_order_that_loses_nothing(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened, client = await it.open(), NcpVisitor(edge, 1)
            client.ask(f"DSID={opened.cookie.reveal_text()}")
            await eventually(lambda: client.seen() == [ACCEPTED])
            assert edge.of(OpenSession, Attach) == []  # nothing before it is known to listen
            edge.got.clear()
            client.send(Frame(0, KmpKind.HOST_NAME, b"lap\ntop"))
            await eventually(lambda: client.frames())
            open_session, attach, config = edge.got
            assert isinstance(open_session, OpenSession)
            assert (open_session.session, open_session.generation) == (opened.session.id, 2)
            assert open_session.address4 == opened.session.address4.packed
            assert open_session.address6 == b""
            assert attach == Attach(conn=1, session=opened.session.id)
            told, keys = decode_config(config.body)
            assert told.address4 == opened.session.address4
            assert told.esp.hmac is EspHmac.SHA1  # although the configuration says SHA-256
            assert open_session.esp_in.suite is Suite.AES256_CBC_SHA1
            assert keys == EspKeys(open_session.esp_in.spi, open_session.esp_in.secret)
            client.send(Frame(0, KmpKind.KEYS, encode_keys(KEYS)))
            [installed] = await eventually(lambda: edge.of(InstallEspOut))
            assert (installed.sa.spi, installed.sa.suite) == (KEYS.spi, Suite.AES256_CBC_SHA1)
            assert installed.sa.secret == KEYS.secret
            await it.settle(edge)
            assert len(client.frames()) == 1  # a client ends its tunnel at any other message
            stored = await it.sessions.find(opened.session.id)
            assert stored.client.host_name == "lap\N{REPLACEMENT CHARACTER}top"
            assert stored.client.user_agent == "OpenConnect v9.01"

    run(work())


def test_a_name_that_cannot_be_stored_costs_no_tunnel(tmp_path, monkeypatch):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            tried = asyncio.Event()

            async def fails(*_):
                tried.set()
                raise ProblemError(
                    Problem("store-failed", "The store cannot be written.", "Look at the disk.")
                )

            monkeypatch.setattr(it.sessions, "name_host", fails)
            await NcpVisitor(edge, 1).enter((await it.open()).cookie)
            await tried.wait()
            await it.settle(edge)
            assert edge.of(CloseConn) == []

    run(work())


@pytest.mark.parametrize("why", ["outer IPv6", "no ESP", "profile"])
def test_without_esp(tmp_path, why):
    profiles = [{"name": "Slow", "transport": "ssl"}] if why == "profile" else []
    configuration = tree(esp={"enabled": why != "no ESP"}, connection_profiles=profiles)

    async def work():
        async with subject(tmp_path, configuration=configuration) as it, it.serving() as edge:
            client = NcpVisitor(edge, 1)
            if why == "outer IPv6":
                client.peer = "[2001:db8::9]:50000"
            await client.enter((await it.open()).cookie)
            [open_session] = edge.of(OpenSession)
            assert open_session.esp_in is None
            config, keys = decode_config(client.frames()[-1].body)
            assert (config.esp, keys) == (None, None)

    run(work())


@pytest.mark.parametrize(
    "why", ["none", "unknown", "twice", "no text", "ended", "ipv6", "bound", "switched off"]
)
def test_a_cookie_that_is_no_good_is_refused_before_anything_is_said(tmp_path, why):
    parts = {
        "ipv6": {"network": {"pools": ["fd00:88::/64"]}},
        "switched off": {"gateway": {"network_connect": False}},
    }
    configuration = tree(**parts.get(why, {}))

    async def work():
        async with subject(tmp_path, configuration=configuration) as it, it.serving() as edge:
            opened = await it.open(public_key=b"k" * 32 if why == "bound" else b"")
            cookie = opened.cookie.reveal_text()
            if why == "ended":
                await it.service.end(opened.session.id, EndCause.DISCONNECTED)
            header = {
                "none": "DSSIGNIN=url_default",
                "unknown": f"DSID={'0' * 32}",
                "twice": f"DSID={cookie}; DSID={cookie}",
                "no text": "DSID=\N{LATIN SMALL LETTER E WITH ACUTE}",
            }.get(why, f"DSID={cookie}")
            client = NcpVisitor(edge, 1)
            client.ask(header)
            await edge.sees(CloseConn(conn=1))
            await it.settle(edge)
            assert client.frames() == []
            assert edge.of(OpenSession) == []
            stored = await it.sessions.find(opened.session.id)
            assert stored.generation == 1
            assert stored.ended is None or why == "ended"

    run(work())


def test_a_store_that_fails_is_no_refusal(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened, client = await it.open(), NcpVisitor(edge, 1)
            it.sessions.failing.add("resume")
            client.ask(f"DSID={opened.cookie.reveal_text()}")
            await edge.sees(CloseConn(conn=1))
            # Accepted first: the client takes a closed connection for a broken one, and comes again.
            assert edge.for_connection(1) == [LinkFrame(1, 0, 0, b""), CloseConn(conn=1)]
            await NcpVisitor(edge, 2).enter(opened.cookie)

    run(work())


def test_a_client_that_comes_back_keeps_its_session_and_address(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened, first = await it.open(), NcpVisitor(edge, 1)
            await first.enter(opened.cookie)
            first.leave(opened.session.id)
            early = NcpVisitor(edge, 2)
            early.ask(f"DSID={opened.cookie.reveal_text()}")
            await early.next_frame()
            early.leave()  # before it said its name
            third = NcpVisitor(edge, 3)
            await third.enter(opened.cookie)
            assert [(each.generation, each.address4) for each in edge.of(OpenSession)] == [
                (2, opened.session.address4.packed),
                (4, opened.session.address4.packed),
            ]
            assert decode_config(third.frames()[-1].body)[0].address4 == opened.session.address4

    run(work())


@pytest.mark.parametrize("adopted", [False, True])
def test_rekey(tmp_path, adopted):
    async def work():
        async with subject(tmp_path) as it:
            opened = await it.open(suite=Suite.AES128_CBC_SHA1)
            state = state_of(opened.session, conn=1, transport=Transport.ESP, spis=(4711,))
            states = [replace(state, framing=Framing.NCP)] if adopted else []
            async with it.serving(*states) as edge:
                client = NcpVisitor(edge, 1)
                if not adopted:
                    await client.enter(opened.cookie)
                    client.send(Frame(0, KmpKind.KEYS, encode_keys(KEYS)))
                edge.say(RekeyWanted(opened.session.id))
                message = await client.next_frame()
                assert (message.vendor, message.kind) == (0, KmpKind.KEYS)
                [installed] = edge.of(InstallEspIn)
                assert edge.got.index(installed) < edge.got.index(message)
                assert decode_keys(message.body) == EspKeys(installed.sa.spi, installed.sa.secret)
                suite = Suite.AES128_CBC_SHA1 if adopted else Suite.AES256_CBC_SHA1
                assert installed.sa.suite is suite
                client.send(Frame(0, KmpKind.KEYS, encode_keys(KEYS)))
                await eventually(lambda: len(edge.of(InstallEspOut)) == (1 if adopted else 2))
                # One answer to each offer (a restarted control plane may owe one more), and nothing that is none.
                client.send(Frame(0, KmpKind.KEYS, encode_keys(KEYS)[:-1]))
                await edge.sees(CloseConn(conn=1))

    run(work())


def test_a_session_whose_client_never_asks_for_its_tunnel_ends(tmp_path):
    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            never, used = await it.open(), await it.open("bob")
            for opened in (never, used):
                it.service.expect(opened.session)
            await NcpVisitor(edge, 1).enter(used.cookie)
            it.clock.now += START_PATIENCE - 1
            await it.settle(edge)
            assert await it.cause(never.session) is None
            it.clock.now += 1
            assert await it.ends(never.session) is EndCause.ABANDONED
            assert await it.cause(used.session) is None

    run(work())
