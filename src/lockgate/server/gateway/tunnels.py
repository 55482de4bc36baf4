"""The sessions that the edge holds: opened, given other rights, re-keyed, forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import structlog

from lockgate.model.session import Session
from lockgate.protocol import edge_link
from lockgate.protocol.ncp import server as ncp
from lockgate.protocol.pulse import server as pulse
from lockgate.server.gateway.connection import Connection, Wire
from lockgate.server.gateway.split_news import SplitNews
from lockgate.server.gateway.terms import Terms, adopted_suite, mtu_of, tunnel_config
from lockgate.server.gateway.tunnel import Tunnel, new_sa
from lockgate.server.in_force import InForce, Rights

log = structlog.get_logger("gateway")

MOST_SPIS = 2  # of one session: in use, and just replaced


def limits_of(rights: Rights) -> tuple[int, int, edge_link.FlowAudit]:
    """What SetLimits tells."""
    return rights.rate_in, rights.rate_out, rights.flows


class Tunnels:
    """All tunnels of one gateway, by session and by connection."""

    def __init__(
        self,
        in_force: InForce,
        send: Callable[[edge_link.ToEdge], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._in_force, self._send, self._clock = in_force, send, clock
        self._by_session: dict[int, Tunnel] = {}
        self._by_conn: dict[int, Tunnel] = {}
        self._spis: set[int] = set()  # in use, and some that were until lately
        self._rekeys: dict[int, asyncio.TimerHandle] = {}
        self._split_news = SplitNews(clock)

    def __len__(self) -> int:
        return len(self._by_session)

    def __iter__(self) -> Iterator[Tunnel]:
        """Of this moment; tunnels may come and go meanwhile."""
        return iter(tuple(self._by_session.values()))

    def get(self, session: int) -> Tunnel | None:
        return self._by_session.get(session)

    def of_connection(self, conn: int) -> Tunnel | None:
        return self._by_conn.get(conn)

    def numbers(self) -> Iterable[int]:
        """The sessions of all tunnels."""
        return tuple(self._by_session)

    # -- coming and going --------------------------------------------------------------------------

    def start(self, connection: Connection[Any], session: Session, rights: Rights, terms: Terms) -> Tunnel:
        """Opens the session in the edge and configures its client, in the order that loses nothing:
        keys before the client hears of them, the connection handed over before the first data."""
        self.forget(session.id)
        tree = self._in_force.tree
        wire: Wire = connection.conversation
        # Network Connect has no words for IPv6, and the edge nothing to put it in.
        address6 = None if isinstance(wire, ncp.ServerConversation) else session.address6
        tunnel = Tunnel(session, wire, connection.id, terms.suite, self._send)
        tunnel.rights, tunnel.mapping = rights, self._in_force.mapping(session.realm)
        tunnel.tells, tunnel.follows = terms.options, terms.split
        self._by_session[session.id] = tunnel
        self._by_conn[connection.id] = tunnel
        sa = self._new_sa(terms.suite) if terms.suite is not None else None
        self._send(
            edge_link.OpenSession(
                session=session.id,
                generation=session.generation,
                address4=session.address4.packed if session.address4 else b"",
                address6=address6.packed if address6 else b"",
                mtu=mtu_of(tree.network, rights.effective, session),
                remaining=session.remaining(self._clock()),
                idle=session.idle_seconds,
                fallback=tree.esp.fallback_seconds,
                revision=self._in_force.revision,
                rules=rights.rules,
                esp_in=sa,
                cross_family=terms.cross_family,
                rate_in=rights.rate_in,
                rate_out=rights.rate_out,
                rule_set=rights.rule_set,
                flows=rights.flows,
            )
        )
        self._send(edge_link.Attach(conn=connection.id, session=session.id))
        wire.configure(tunnel_config(tree.esp, tree.network, rights.effective, rights.split, session, terms))
        tunnel.split = (rights.split, self._clock())
        if sa is not None:
            tunnel.offer_esp(sa)
        wire.end_configuration()
        tunnel.flush()
        self._schedule_rekey(tunnel)
        log.info(
            "tunnel-open",
            session=session.id,
            user=session.user,
            roles=list(session.roles),
            source=connection.source,
            address4=str(session.address4 or ""),
            address6=str(address6 or ""),
            generation=session.generation,
            framing=connection.opened.framing.value,
            suite=str(terms.suite or ""),
        )
        return tunnel

    def adopt(self, session: Session, state: edge_link.SessionState) -> Tunnel:
        """Takes up a session that an edge has; its rights are sent anew."""
        now = self._clock()
        rights = self._in_force.rights(session.roles)
        conversation: Wire | None = None
        suite = adopted_suite(self._in_force.tree.esp, rights.effective, session)
        if state.conn and state.framing is edge_link.Framing.NCP:
            # No earlier release opened one of these, so that no suite means that.
            conversation = ncp.ServerConversation.in_tunnel()
            suite = None if suite is None else session.suite
        elif state.conn:
            conversation = pulse.ServerConversation.in_tunnel()
        tunnel = Tunnel(session, conversation, state.conn, suite, self._send)
        tunnel.transport, tunnel.peer, tunnel.traffic = state.transport, state.peer, state.traffic
        tunnel.quiet_since = now - state.quiet
        tunnel.away_since = None if state.conn else now
        tunnel.spis = state.spis
        tunnel.esp_answered = state.transport is edge_link.Transport.ESP
        tunnel.mapping = None  # nobody knows by which revision its roles were given
        # A key has only a client of ours, and those pass over what they do not know.
        tunnel.tells = tunnel.follows = session.bound
        self._by_session[session.id] = tunnel
        if state.conn:
            self._by_conn[state.conn] = tunnel
        self._send_rights(tunnel, rights)
        self._send_limits(tunnel)
        self._schedule_rekey(tunnel)
        return tunnel

    def adopt_all(self, spis: Iterable[int]) -> None:
        """These inbound SPIs are taken, and no others."""
        self._spis = set(spis)

    def disconnected(self, conn: int) -> Tunnel | None:
        """The connection is gone; the session stays."""
        tunnel = self._by_conn.pop(conn, None)
        if tunnel is not None:
            tunnel.disconnected(self._clock())
        return tunnel

    def forget(self, session: int) -> None:
        """It is not in the edge any more."""
        self._split_news.forget(session)
        tunnel = self._by_session.pop(session, None)
        if tunnel is not None:
            self._by_conn.pop(tunnel.conn, None)
        if (timer := self._rekeys.pop(session, None)) is not None:
            timer.cancel()

    def forget_all(self) -> None:
        """The edge is gone."""
        for session in list(self._by_session):
            self.forget(session)

    # -- rights ------------------------------------------------------------------------------------

    def apply(self, tunnel: Tunnel, session: Session, rights: Rights) -> bool:
        """What the session now is and may; the edge hears of what differs. True when its rules did."""
        if tunnel.closing:
            return False
        limits = (session.expires, session.idle_seconds)
        changed = limits != (tunnel.session.expires, tunnel.session.idle_seconds)
        tunnel.session = session
        ruled = self._send_rights(tunnel, rights)
        if changed:
            self._send_limits(tunnel)
        return ruled

    def cut_off(self, session: int) -> None:
        """Not a packet more, whatever becomes of the session."""
        tunnel = self._by_session.get(session)
        if tunnel is not None:
            self._send_rights(tunnel, self._in_force.rights(()))
            tunnel.closing = True

    def extended(self, session: Session) -> None:
        """The session ends later; its edge and its client hear of it."""
        tunnel = self._by_session.get(session.id)
        if tunnel is not None and not tunnel.closing:
            tunnel.session = replace(tunnel.session, expires=session.expires, extended=session.extended)
            tunnel.mapping = None  # it was extended by roles that may be others than it has
            self._send_limits(tunnel)

    def _send_rights(self, tunnel: Tunnel, rights: Rights) -> bool:
        before, tunnel.rights = tunnel.rights, rights
        ruled = before is None or before.rules != rights.rules
        # The same rules by other names: what the edge has counted so far belongs to the former.
        if before is None or ruled or before.rule_set != rights.rule_set:
            self._send(
                edge_link.SetRules(
                    session=tunnel.session.id,
                    revision=self._in_force.revision,
                    rules=rights.rules,
                    rule_set=rights.rule_set,
                )
            )
        if before is None or limits_of(before) != limits_of(rights):
            rate_in, rate_out, flows = limits_of(rights)
            self._send(
                edge_link.SetLimits(
                    session=tunnel.session.id, rate_in=rate_in, rate_out=rate_out, flows=flows
                )
            )
        self._split_news.look(tunnel)
        return ruled

    def _send_limits(self, tunnel: Tunnel) -> None:
        session, remaining = tunnel.session, tunnel.session.remaining(self._clock())
        self._send(edge_link.SetDeadline(session=session.id, remaining=remaining, idle=session.idle_seconds))
        tunnel.tell_remaining(remaining)

    # -- keys --------------------------------------------------------------------------------------

    def rekey(self, session: int, wanted: bool = False) -> None:
        """New keys, unless the client has ESP switched off. wanted: the edge asked for them."""
        tunnel = self._by_session.get(session)
        if tunnel is None or tunnel.suite is None:
            return
        if tunnel.conn and (tunnel.esp_answered or wanted):
            tunnel.rekey(self._new_sa(tunnel.suite))
            log.info("rekey", session=session, user=tunnel.session.user)
        self._schedule_rekey(tunnel)

    def tidy(self) -> None:
        """Tells what had to wait, and forgets SPIs that are long out of use."""
        self._split_news.tick()
        if len(self._spis) > 2 * MOST_SPIS * (len(self._by_session) + 1000):
            self._spis = {spi for tunnel in self._by_session.values() for spi in tunnel.spis}

    def _schedule_rekey(self, tunnel: Tunnel) -> None:
        if tunnel.suite is None:
            return
        if (timer := self._rekeys.pop(tunnel.session.id, None)) is not None:
            timer.cancel()
        self._rekeys[tunnel.session.id] = asyncio.get_running_loop().call_later(
            self._in_force.tree.esp.rekey_seconds, self.rekey, tunnel.session.id
        )

    def _new_sa(self, suite: edge_link.Suite) -> edge_link.Sa:
        sa = new_sa(suite, self._spis)
        self._spis.add(sa.spi)
        return sa
