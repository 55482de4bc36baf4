"""The parts of a control plane and how they hang together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Realm
from lockgate.server import tracing
from lockgate.server.audit import Audit
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.service import SignIns
from lockgate.server.chores import Chores
from lockgate.server.config.revision import Revision
from lockgate.server.config.service import ConfigService
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.decisions import Decisions
from lockgate.server.explanations import Explanations
from lockgate.server.follow import NAMES, POLICY
from lockgate.server.gateway.flow_log import FlowLog
from lockgate.server.gateway.service import GatewayService
from lockgate.server.in_force import InForce
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.logs import configure_logs
from lockgate.server.names import Names
from lockgate.server.record_peers import RecordPeers
from lockgate.server.sampling import PERIOD, Sampling
from lockgate.server.sessions import Sessions
from lockgate.server.store.interface import Store
from lockgate.server.syslog import AuditFeed, Syslog
from lockgate.server.trace_export import TraceExport
from lockgate.server.vault import Vault, open_vault
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import WebSessions

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LAST_SPANS = 2.0  # seconds that the end of the process waits for a collector
KEEP_ENDED_WEB = 30 * DAY  # seconds that an ended web session is remembered


class Parts:
    """One control plane; made by `make`."""

    def __init__(
        self,
        directory: DataDirectory,
        store: Store,
        vault: Vault,
        audit: Audit,
        config: ConfigService,
        start_tree: Configuration,
        started: float,
        clock: Callable[[], float],
    ) -> None:
        # Some are told of what others do that are made after them: those are looked up when it happens.
        self.directory, self.store, self.config, self.started = directory, store, config, started
        self.in_force = in_force = InForce(start_tree, config.tree, config.number)
        self.names = Names(self._names_changed)
        self.names.want(in_force.policy.names)
        self.decisions = Decisions(store, in_force, clock)
        self.sessions = Sessions(store, in_force, audit, self.decisions, clock)
        self.sign_ins = SignIns(
            store=store,
            in_force=in_force,
            sessions=self.sessions,
            decisions=self.decisions,
            audit=audit,
            end_session=lambda session, cause: self.gateway.end(session, cause),
            cut_off=lambda: self.gateway.end_stale(),
            clock=clock,
        )
        launches = LaunchHandles(store.handles, store.web_sessions, audit, clock)
        self.gateway = GatewayService(
            edge_socket=directory.edge_socket,
            in_force=in_force,
            sessions=self.sessions,
            sign_ins=self.sign_ins,
            launches=launches,
            authorities=Authorities(in_force, audit, clock),
            audit=audit,
            flows=FlowLog(store, audit, in_force.rule_names, clock),
            clock=clock,
        )
        self.web_sessions = WebSessions(store, in_force, audit, clock, end_tunnel=self.gateway.end)
        self.sampling = Sampling(store, self.gateway, directory, clock)
        self.record_peers = RecordPeers(store.user_records, lambda: config.tree, vault, clock)
        self.traces = TraceExport(vault)
        self.syslog = Syslog()
        self.syslog.configure(config.tree.log.syslog, config.tree.cluster.node_name)
        self.services = Services(
            directory=directory,
            store=store,
            vault=vault,
            audit=audit,
            config=config,
            in_force=in_force,
            sessions=self.sessions,
            web_sessions=self.web_sessions,
            decisions=self.decisions,
            explanations=Explanations(
                store, in_force, self.decisions, self.sign_ins.lookup, self.names.ask, clock
            ),
            addresses=self.names.ask,
            sign_ins=self.sign_ins,
            gateway=self.gateway,
            sampling=self.sampling,
            traces=self.traces,
            launch_handles=launches,
            user_changed=self.user_changed,
            clock=clock,
            started=started,
        )
        config.subscribe(self._follow)

    @classmethod
    async def make(
        cls,
        directory: DataDirectory,
        store: Store,
        start_tree: Configuration,
        started: float,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """start_tree: what the server was started with, at `started`. Raises ProblemError when the
        configuration cannot be used."""
        vault, audit = open_vault(directory), Audit(store.audit, clock)
        config = ConfigService(store, vault, audit, clock)
        await config.load()
        parts = cls(directory, store, vault, audit, config, start_tree, started, clock)
        await parts.traces.configure(config.tree)
        return parts

    async def _names_changed(self, resolved: Mapping[str, tuple[IPv4Address | IPv6Address, ...]]) -> None:
        since = self.services.clock()
        self.in_force.resolve(resolved, self.names.answered)
        await self.gateway.follow.catch_up(NAMES, since)

    async def _follow(self, _: Configuration, revision: Revision) -> None:
        """Another revision counts from now on."""
        with tracing.part("compile"):
            await self.in_force.adopt(revision.tree, revision.number)
        tree = self.in_force.tree
        configure_logs(tree.log.level)
        self.syslog.configure(tree.log.syslog, tree.cluster.node_name)
        self.sign_ins.follow()
        self.names.want(self.in_force.policy.names)
        with tracing.part("follow"):
            await self.gateway.follow.catch_up(POLICY, revision.time)
        # Last, as what is still to be traced of a commit that changes it is lost.
        await self.traces.configure(tree)

    async def user_changed(self, server: str, user: str) -> list[int]:
        """An account was changed in the store: its sessions that ended are cut off, the others follow."""
        since = self.services.clock()
        ended = await self.gateway.end_stale()
        account = await self.sign_ins.lookup(server, user)
        groups = () if account is None else account.groups
        attributes = {} if account is None else account.attributes

        def fresh_in(realms: Mapping[str, Realm]) -> Callable[[SignInFacts], SignInFacts]:
            def fresh(facts: SignInFacts) -> SignInFacts:
                realm = realms.get(facts.realm)
                if realm is None or (realm.server, realm.directory) != (facts.server, server):
                    return facts
                return replace(facts, groups=groups, attributes=attributes)

            return fresh

        policy = self.in_force.policy
        await self.web_sessions.user_changed("portal", user, fresh_in(policy.realms))
        await self.web_sessions.user_changed("console", user, fresh_in(policy.admin_realms))
        await self.gateway.follow.user_changed(user, fresh_in(policy.realms), since)
        return ended

    def add_chores(self, chores: Chores) -> None:
        """What is to be done by the clock."""
        chores.every(1.0, "revisions of other processes", self.config.refresh)
        chores.every(1.0, "decisions", self.decisions.flush)
        chores.every(1.0, "browsers' sessions", self.web_sessions.end_due)
        chores.every(5.0, "roles by the clock", self.gateway.follow.clock_moved)
        chores.every(PERIOD, "samples", self.sampling.turn)
        chores.every(1.0, "user records", self.record_peers.turn)
        chores.every(MINUTE, "user records of a wrong clock", self._set_back)
        chores.every(1.0, "syslog", AuditFeed(self.syslog, self.store).turn)
        chores.every(HOUR, "old records", self._clear_away)

    async def _set_back(self) -> None:
        await self.store.user_records.set_back(int(self.services.clock() * 1000))

    async def _clear_away(self) -> None:
        now = self.services.clock()
        tree = self.in_force.tree
        await self.decisions.prune()
        await self.store.web_sessions.prune(now - KEEP_ENDED_WEB)
        await self.store.handles.prune(now)
        await self.store.user_records.prune(int(now * 1000))
        await self.store.blobs.delete_unused(now - DAY)  # a day to name what was uploaded
        logs = tree.client_logs
        await self.store.uploads.prune(now - logs.keep_days * DAY, logs.keep_total_megabytes << 20)
        keep_days, keep_bytes = tree.log.keep_days, tree.log.keep_megabytes << 20
        await self.store.audit.prune(
            now - keep_days * DAY if keep_days else None,
            keep_bytes or None,
            lambda count: self.services.audit.entry("audit-pruned", ok=True, text=f"{count} records"),
        )
        flow_days, flow_bytes = tree.log.flows_keep_days, tree.log.flows_keep_megabytes << 20
        await self.store.audit.prune_flows(
            now - flow_days * DAY if flow_days else None,
            flow_bytes or None,
            lambda count: self.services.audit.entry("audit-flows-pruned", ok=True, text=f"{count} flows"),
        )

    async def flush(self) -> None:
        """Writes down what only this process knows."""
        await self.sessions.flush()
        await self.decisions.flush()
        await self.web_sessions.flush()
        await self.gateway.flows.flush()
        await self.traces.close(LAST_SPANS)
