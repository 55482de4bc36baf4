"""From the first frame of a connection to its tunnel: sign-in, launch handle or cookie, then the session.

A session that is opened here is ended here when its client never gets to its tunnel. Network Connect clients have
signed in over HTTP (`server.web.network_connect`) and come with the cookie of a session.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from lockgate.model.facts import CertificateFacts
from lockgate.model.identity import Identity
from lockgate.model.place import plain_address
from lockgate.model.problem import ProblemError
from lockgate.model.prompt import Refused
from lockgate.model.session import ClientFacts, EndCause, Refusal, RefusalReason, Session
from lockgate.model.text import printable
from lockgate.protocol.cookie_header import cookies_named
from lockgate.protocol.edge_link import Suite
from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.ncp import server as ncp
from lockgate.protocol.pulse import server as pulse
from lockgate.protocol.pulse.events import ClientReady, SignInAcknowledged
from lockgate.protocol.pulse.questions import MAX_REFUSAL
from lockgate.protocol.secret import Secret
from lockgate.server import tracing
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.request import SignInRequest
from lockgate.server.auth.service import SignIns
from lockgate.server.gateway.connection import Connection, ConnectionLost
from lockgate.server.gateway.sign_in import TEXT_LIMIT, facts_of, sign_in
from lockgate.server.gateway.terms import (
    Terms,
    network_connect_suite,
    network_connect_terms,
    suite_of,
    terms_of,
)
from lockgate.server.gateway.tunnels import Tunnels
from lockgate.server.in_force import InForce, Rights
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.sessions import Opened, Proof, Sessions
from lockgate.server.store.interface import AuditEntry

log = structlog.get_logger("gateway")

# Cookies looked up at a time. Anybody may send one; the store must stay free for those who are signed in.
MAX_RESUMES = 64
SIGN_IN_PATIENCE = 180.0  # seconds for a person to answer everything; the edge has the same limit

# if-t-tls.md, section 8.8; any code but 0x0d and 0x0e is shown as a number.
FAILURE_COOKIE = 0x10
# oncp.md, section 2: where a Network Connect client keeps the cookie of its session.
COOKIE = "DSID"


class Entrance:
    """Serves connections one by one; holds none of them."""

    def __init__(
        self,
        *,
        in_force: InForce,
        sessions: Sessions,
        sign_ins: SignIns,
        launches: LaunchHandles,
        tunnels: Tunnels,
        authorities: Authorities,
        end: Callable[[int, EndCause], Awaitable[object]],
        drop: Callable[[int, EndCause | None], None],
        started: Callable[[int], Awaitable[object]],
        applied: Callable[[tracing.Span], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """end: ends a session everywhere. drop: takes one that is over out of the edge. started: a tunnel
        was started, and what it was decided by may have changed meanwhile. applied: ends a span when the edge
        has done what it was told."""
        self._in_force, self._sessions = in_force, sessions
        self._sign_ins, self._launches, self._tunnels = sign_ins, launches, tunnels
        self._authorities = authorities
        self._end, self._drop, self._started, self._clock = end, drop, started, clock
        self._applied = applied
        self._resumes = asyncio.Semaphore(MAX_RESUMES)

    async def serve(self, connection: Connection[pulse.ServerConversation]) -> None:
        """Until the connection has a tunnel or is closed."""
        await self._served(connection, self._sign_in_and_open(connection), "sign-in")

    async def serve_network_connect(self, connection: Connection[ncp.ServerConversation]) -> None:
        """The same for a client that has signed in over HTTP."""
        await self._served(connection, self._take_up(connection), "resume")

    async def _served(self, connection: Connection[Any], work: Awaitable[None], name: str) -> None:
        with tracing.operation(name, tracing.who(address=connection.source), kind="server") as trace:
            await self._watched(connection, work, trace)

    async def _watched(self, connection: Connection[Any], work: Awaitable[None], trace: tracing.Span) -> None:
        try:
            async with asyncio.timeout(SIGN_IN_PATIENCE):
                await work
        except ConnectionLost:
            trace.fail("client-left")
            log.info("client-left-during-sign-in", source=connection.source)
        except PeerError as error:
            trace.fail("client-broke-protocol")
            log.warning("client-broke-protocol", source=connection.source, reason=str(error))
            connection.close()
        except TimeoutError:
            trace.fail("timed-out")
            log.info("sign-in-timed-out", source=connection.source)
            connection.close()
        except UsageError:
            connection.close()
            if not connection.logged_out:
                raise
            # It was our turn to speak when the client left: there was nobody to speak to.
            trace.fail("client-left")
            log.info("client-left-during-sign-in", source=connection.source)
        except Exception:
            connection.close()
            raise

    async def _sign_in_and_open(self, connection: Connection[pulse.ServerConversation]) -> None:
        ready = await connection.next_event()
        if not isinstance(ready, ClientReady):
            raise PeerError(f"{type(ready).__name__} before the client introduced itself")
        facts = facts_of(connection, ready)
        certificate = await self._authorities.judge(connection.opened.client_certificates, facts.source)
        trace = tracing.current()
        if ready.cookie is not None:
            trace.rename("resume")
            opened = await self._resume(connection, ready, facts, certificate)
        else:
            opened = await self._open(connection, ready, facts, certificate)
        if opened is None:
            trace.note({"lockgate.outcome": "refused"})
            connection.close()
            return
        session = opened.session
        _note_session(trace, session)
        entered = False
        try:
            entered = await self._enter(connection, opened, ready)
            trace.note({"lockgate.outcome": "tunnel" if entered else "left"})
        finally:
            if connection.logged_out:
                await self._end(opened.session.id, EndCause.LOGOUT)
            elif ready.cookie is None and not entered:
                # Nobody has the cookie of this session: it would only hold an address.
                await self._end(opened.session.id, EndCause.ABANDONED)

    async def _open(
        self,
        connection: Connection[pulse.ServerConversation],
        ready: ClientReady,
        facts: ClientFacts,
        certificate: CertificateFacts | None,
    ) -> Opened | None:
        """A new session after a complete sign-in; None when the client was refused and told so."""
        request = SignInRequest(
            audience="users",
            host=connection.opened.host,
            path=connection.opened.path,
            client=facts,
            certificate=certificate,
            kind="tunnel",
        )
        parent: str | None = None
        unwritten: Sequence[AuditEntry] = ()
        if ready.handle is not None:
            launched = await self._launch(ready, request)
            if isinstance(launched, Refused):
                connection.conversation.refuse(launched.told(MAX_REFUSAL))
                return None
            identity: Identity | None
            identity, parent = launched
        else:
            conversation = self._sign_ins.conversation(request, opens_session=True)
            identity = await sign_in(connection, conversation)
            unwritten = conversation.unwritten
        if identity is None:
            return None
        terms = terms_of(
            self._in_force.tree.esp, self._in_force.rights(identity.roles).effective, ready.capabilities
        )
        with tracing.part("session commit"):
            opened = await self._sessions.open(
                identity,
                facts,
                public_key=ready.public_key,
                suite=terms.suite,
                parent=parent,
                before=unwritten,
            )
        if isinstance(opened, Refused):
            connection.conversation.refuse(opened.told(MAX_REFUSAL))
            return None
        return opened

    async def _launch(self, ready: ClientReady, request: SignInRequest) -> tuple[Identity, str] | Refused:
        """Whoever signed in to the portal, whose Start made the handle; and that web session."""
        assert ready.handle is not None
        redeemed = await self._launches.redeem(
            ready.handle, host=request.host, path=request.path, source=request.client.source
        )
        if isinstance(redeemed, Refused):
            return redeemed
        outcome = await self._sign_ins.go_on(redeemed, request)
        return outcome if isinstance(outcome, Refused) else (outcome.identity, redeemed.id)

    async def _resume(
        self,
        connection: Connection[pulse.ServerConversation],
        ready: ClientReady,
        facts: ClientFacts,
        certificate: CertificateFacts | None,
    ) -> Opened | None:
        """The session of a cookie; None when the client was refused and told so."""
        assert ready.cookie is not None
        suite = suite_of(self._in_force.tree.esp, ready.capabilities)
        outcome = await self._by_cookie(connection, ready.cookie, ready.proof, facts, suite, certificate)
        if not isinstance(outcome, Refusal):
            return outcome
        # Anything but a cookie back is a no; this failure is one the client reports as such. Why it is
        # one is for the audit: a stranger learns nothing about a cookie. Our own client, which has
        # proven that the session is its own, shows a text as well.
        if outcome.told is not None and outcome.session is not None and outcome.session.bound:
            connection.conversation.refuse(outcome.told.told(MAX_REFUSAL))
        else:
            connection.conversation.fail(FAILURE_COOKIE)
        return None

    async def _by_cookie(
        self,
        connection: Connection[Any],
        cookie: Secret,
        proof: bytes,
        facts: ClientFacts,
        suite: Suite | None,
        certificate: CertificateFacts | None,
        *,
        only4: bool = False,
    ) -> Opened | Refusal:
        """The session of a cookie goes on, or is ended where two parties have its cookies."""
        async with self._resumes:
            with tracing.part("session resumption"):
                outcome = await self._sessions.resume(
                    cookie,
                    facts,
                    Proof(connection.opened.exporter, proof),
                    connected=connection.since,
                    suite=suite,
                    certificate=certificate,
                    only4=only4,
                )
        if (
            isinstance(outcome, Refusal)
            and outcome.reason is RefusalReason.COOKIE_REPLAYED
            and outcome.session is not None
        ):
            log.error("cookie-replayed", session=outcome.session.id, source=facts.source)
            await self._end(outcome.session.id, EndCause.COOKIE_REPLAYED)
            await self._sessions.note_replay(outcome, facts)
        return outcome

    async def _enter(
        self, connection: Connection[pulse.ServerConversation], opened: Opened, ready: ClientReady
    ) -> bool:
        """Tells the client its cookie and, once it has acknowledged that, starts the tunnel.

        False when it comes to no tunnel; the connection is closed then. Raises as `next_event` does.
        """
        session = opened.session
        if connection.logged_out:  # while the store was busy with the session
            connection.close()
            return False
        remaining = session.remaining(self._clock())
        connection.conversation.signed_in(opened.cookie, remaining, session.idle_seconds)
        connection.flush()
        with tracing.part("client acknowledges"):
            acknowledged = isinstance(await connection.next_event(), SignInAcknowledged)
        if connection.logged_out or not acknowledged or self._overtaken(session):
            connection.close()
            return False
        rights = self._in_force.rights(session.roles)
        terms = terms_of(self._in_force.tree.esp, rights.effective, ready.capabilities)
        await self._start(connection, session, rights, terms)
        return True

    def _overtaken(self, session: Session) -> bool:
        """A client that came back a second time, and was faster then, keeps that connection."""
        current = self._tunnels.get(session.id)
        return current is not None and current.session.generation > session.generation

    # -- Network Connect ---------------------------------------------------------------------------

    async def _take_up(self, connection: Connection[ncp.ServerConversation]) -> None:
        trace = tracing.current()
        cookies = self._cookies(connection)
        if len(cookies) != 1 or not self._in_force.tree.gateway.network_connect:
            connection.close()  # before anything is said it is a no
            return
        try:
            session = await self._network_connect_session(connection, Secret.of_text(cookies[0]))
        except Exception:
            # The client takes a no for the end of its session; it comes back when its connection breaks.
            connection.conversation.accept()
            raise
        if session is None:
            trace.note({"lockgate.outcome": "refused"})
            connection.close()
            return
        _note_session(trace, session)
        connection.conversation.accept()
        connection.flush()
        with tracing.part("client acknowledges"):
            told = await connection.next_event()
        if not isinstance(told, ncp.HostNameTold):
            raise PeerError(f"{type(told).__name__} instead of a host name")
        if self._overtaken(session):
            trace.note({"lockgate.outcome": "left"})
            connection.close()
            return
        rights = self._in_force.rights(session.roles)
        terms = network_connect_terms(self._in_force.tree.esp, rights.effective, _over6(connection))
        await self._start(connection, session, rights, terms)
        trace.note({"lockgate.outcome": "tunnel"})
        try:
            await self._sessions.name_host(session, printable(told.name, TEXT_LIMIT))
        except ProblemError as error:
            # People see it; the tunnel does not need it.
            log.warning("host-name-not-stored", session=session.id, **error.problem.as_dict())

    @staticmethod
    def _cookies(connection: Connection[Any]) -> list[str]:
        try:
            return cookies_named(connection.opened.cookie.reveal_text(), COOKIE)
        except ValueError:
            return []

    async def _network_connect_session(
        self, connection: Connection[ncp.ServerConversation], cookie: Secret
    ) -> Session | None:
        """The session of a cookie, which goes on; None where the client is refused."""
        agent = printable(connection.opened.user_agent, TEXT_LIMIT)
        # Roles are not decided by a host name that comes only when they are.
        facts = ClientFacts(source=connection.source, user_agent=agent, host_name="")
        certificate = await self._authorities.judge(connection.opened.client_certificates, facts.source)
        suite = network_connect_suite(self._in_force.tree.esp, _over6(connection))
        outcome = await self._by_cookie(connection, cookie, b"", facts, suite, certificate, only4=True)
        return None if isinstance(outcome, Refusal) else outcome.session

    # -- the tunnel --------------------------------------------------------------------------------

    async def _start(
        self, connection: Connection[Any], session: Session, rights: Rights, terms: Terms
    ) -> None:
        attach = tracing.part("edge attach", {"lockgate.rules": len(rights.rules)})
        tunnel = self._tunnels.start(connection, session, rights, terms)
        self._applied(attach)
        if session.revision != self._in_force.revision:
            tunnel.mapping = None  # decided by an earlier revision
        try:
            # Before anything is waited for: what an earlier revision gave may be gone.
            await self._started(session.id)
            # A command may have ended the session while its client was acknowledging. From here on
            # `end_stale` knows of it; what happened before is seen now.
            stored = await self._sessions.find(session.id)
        except BaseException:
            # Who cannot find out says no. The session is there for the next try.
            if self._tunnels.get(session.id) is tunnel:
                self._drop(session.id, EndCause.ABANDONED)
            raise
        if stored is None or stored.ended is not None:
            self._drop(session.id, stored.cause if stored is not None else None)
            if stored is not None:
                await self._sessions.note_ended_elsewhere([stored])
        elif stored.generation == session.generation:
            # It may have been extended, or its user given other groups, while the client was acknowledging.
            extended = stored.extended != tunnel.session.extended
            if extended:
                self._tunnels.extended(stored)
            if extended or stored.facts != tunnel.session.facts:
                tunnel.session, tunnel.mapping = stored, None
                await self._started(session.id)


def _note_session(trace: tracing.Span, session: Session) -> None:
    trace.note({"lockgate.realm": session.realm, "session.id": str(session.id)})
    trace.note(tracing.who(session.user))


def _over6(connection: Connection[Any]) -> bool:
    """Whether the client came over IPv6."""
    return plain_address(connection.source).version == 6
