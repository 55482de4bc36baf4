"""The parts of a control plane and how they hang together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Realm
from lockgate.server.audit import Audit
from lockgate.server.auth.certificates import Authorities
from lockgate.server.auth.service import SignIns
from lockgate.server.chores import Chores
from lockgate.server.config.service import ConfigService, Revision
from lockgate.server.config.tree import Configuration
from lockgate.server.datadir import DataDirectory
from lockgate.server.decisions import Decisions
from lockgate.server.follow import NAMES, POLICY
from lockgate.server.gateway.service import GatewayService
from lockgate.server.in_force import InForce
from lockgate.server.launch_handles import LaunchHandles
from lockgate.server.logs import configure_logs
from lockgate.server.names import Names
from lockgate.server.sampling import PERIOD, Sampling
from lockgate.server.sessions import Sessions
from lockgate.server.store.interface import Store
from lockgate.server.syslog import AuditFeed, Syslog
from lockgate.server.vault import open_vault
from lockgate.server.web.services import Services
from lockgate.server.web.sessions import WebSessions

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
KEEP_ENDED_WEB = 30 * DAY  # seconds that an ended web session is remembered


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One control plane."""

    services: Services
    in_force: InForce
    config: ConfigService
    names: Names
    sessions: Sessions
    sign_ins: SignIns
    gateway: GatewayService
    decisions: Decisions
    web_sessions: WebSessions
    directory: DataDirectory
    store: Store
    syslog: Syslog
    started: float

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
        vault = open_vault(directory)
        audit = Audit(store.audit, clock)
        config = ConfigService(store, vault, audit, clock)
        await config.load()
        in_force = InForce(start_tree, config.tree, config.number)

        async def names_changed(resolved: Mapping[str, tuple[IPv4Address | IPv6Address, ...]]) -> None:
            in_force.resolve(resolved)
            await gateway.follow.catch_up(NAMES)

        names = Names(names_changed)
        names.want(in_force.policy.names)
        decisions = Decisions(
            store, in_force, lambda server, name: sign_ins.lookup(server, name), names.ask, clock
        )
        sessions = Sessions(store, in_force, audit, decisions, clock)
        sign_ins = SignIns(
            store=store,
            in_force=in_force,
            sessions=sessions,
            decisions=decisions,
            audit=audit,
            end_session=lambda session, cause: gateway.end(session, cause),
            cut_off=lambda: gateway.end_stale(),
            clock=clock,
        )
        launches = LaunchHandles(store.handles, store.web_sessions, audit, clock)
        gateway = GatewayService(
            edge_socket=directory.edge_socket,
            in_force=in_force,
            sessions=sessions,
            sign_ins=sign_ins,
            launches=launches,
            authorities=Authorities(in_force, audit, clock),
            clock=clock,
        )
        web_sessions = WebSessions(store, in_force, audit, clock, end_tunnel=gateway.end)

        syslog = Syslog()
        syslog.configure(config.tree.log.syslog, config.tree.cluster.node_name)

        async def follow(_: Configuration, revision: Revision) -> None:
            await in_force.adopt(revision.tree, revision.number)
            configure_logs(in_force.tree.log.level)
            syslog.configure(in_force.tree.log.syslog, in_force.tree.cluster.node_name)
            sign_ins.follow()
            names.want(in_force.policy.names)
            await gateway.follow.catch_up(POLICY)

        config.subscribe(follow)

        async def user_changed(server: str, user: str) -> list[int]:
            return await parts.user_changed(server, user)

        sampling = Sampling(store, gateway, directory, clock)
        services = Services(
            directory=directory,
            store=store,
            vault=vault,
            audit=audit,
            config=config,
            in_force=in_force,
            sessions=sessions,
            web_sessions=web_sessions,
            decisions=decisions,
            sign_ins=sign_ins,
            gateway=gateway,
            sampling=sampling,
            launch_handles=launches,
            user_changed=user_changed,
            clock=clock,
            started=started,
        )
        parts = cls(
            services=services,
            in_force=in_force,
            config=config,
            names=names,
            sessions=sessions,
            sign_ins=sign_ins,
            gateway=gateway,
            decisions=decisions,
            web_sessions=web_sessions,
            directory=directory,
            store=store,
            syslog=syslog,
            started=started,
        )
        return parts

    async def user_changed(self, server: str, user: str) -> list[int]:
        """An account was changed in the store: its sessions that ended are cut off, the others follow."""
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
        await self.gateway.follow.user_changed(user, fresh_in(policy.realms))
        return ended

    def add_chores(self, chores: Chores) -> None:
        """What is to be done by the clock."""
        chores.every(1.0, "revisions of other processes", self.config.refresh)
        chores.every(1.0, "decisions", self.decisions.flush)
        chores.every(1.0, "browsers' sessions", self.web_sessions.end_due)
        chores.every(5.0, "roles by the clock", self.gateway.follow.clock_moved)
        if self.services.sampling is not None:
            chores.every(PERIOD, "samples", self.services.sampling.turn)
        chores.every(1.0, "syslog", AuditFeed(self.syslog, self.store).turn)
        chores.every(HOUR, "old records", self._clear_away)

    async def _clear_away(self) -> None:
        now = self.services.clock()
        tree = self.in_force.tree
        await self.decisions.prune()
        await self.store.web_sessions.prune(now - KEEP_ENDED_WEB)
        await self.store.handles.prune(now)
        await self.store.blobs.delete_unused(now - DAY)  # a day to name what was uploaded
        logs = tree.client_logs
        await self.store.uploads.prune(now - logs.keep_days * DAY, logs.keep_total_megabytes << 20)
        keep_days, keep_bytes = tree.log.keep_days, tree.log.keep_megabytes << 20
        await self.store.audit.prune(
            now - keep_days * DAY if keep_days else None,
            keep_bytes or None,
            lambda count: self.services.audit.entry("audit-pruned", ok=True, text=f"{count} records"),
        )

    async def flush(self) -> None:
        """Writes down what only this process knows."""
        await self.sessions.flush()
        await self.decisions.flush()
        await self.web_sessions.flush()
