"""What is in force: the policy of the current revision, the addresses of names, and what sets of roles amount to.

Whatever a revision leaves as it was stays the same object here. Who remembers what roles were *mapped* by,
or the *rights* they amount to, finds out by `is` whether anything has changed; that is what makes it cheap
to leave ten thousand unaffected sessions alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from weakref import WeakValueDictionary

import structlog

from lockgate.model.access_rule import RuleSet
from lockgate.model.decision import Decision, Reason, RoleDecision
from lockgate.model.facts import SignInFacts
from lockgate.model.policy import Audience, Policy, Realm, Role, SignInPolicy
from lockgate.policy import realm as realms
from lockgate.policy import role_mapping
from lockgate.policy.access import compile_rules
from lockgate.policy.effective import Effective, effective
from lockgate.policy.split import NO_NAMES, Split, split_of
from lockgate.protocol import edge_link
from lockgate.server.config.compile import compile_policy
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import SignInPage

log = structlog.get_logger("policy")

Address = IPv4Address | IPv6Address
Roles = tuple[str, ...]

# Sets of roles that are remembered; servers have a few dozen. With 1,000 rules each takes about 100 KB.
MAX_SETS = 2000

_NOTHING: Mapping[str, tuple[Address, ...]] = MappingProxyType({})
_STANDARD_PAGE = SignInPage(name="Standard")
_NO_REALM = "your realm does not exist any more"


def local_time(now: float) -> datetime:
    """Seconds since 1970 as this machine's clock shows them."""
    return datetime.fromtimestamp(now).astimezone()


def as_running(tree: Configuration, started: Configuration) -> Configuration:
    """`tree`, except for what takes effect at the next start of the server: that is as in `started`."""
    gateway, network, esp = started.gateway, started.network, started.esp
    return tree.model_copy(
        update={
            "gateway": tree.gateway.model_copy(
                update={
                    "listen": gateway.listen,
                    "admin_listen": gateway.admin_listen,
                    "tls_minimum": gateway.tls_minimum,
                    "client_certificates": gateway.client_certificates,
                }
            ),
            "network": tree.network.model_copy(
                update={"pools": network.pools, "mtu": network.mtu, "tun_name": network.tun_name}
            ),
            "esp": tree.esp.model_copy(update={"enabled": esp.enabled, "port": esp.port}),
            "limits": started.limits,
        }
    )


@dataclass(frozen=True, slots=True)
class Mapped:
    """Everything in the configuration that decides which roles the users of one realm have."""

    realm: Realm
    roles: tuple[Role | None, ...]  # those that its rules name


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RuleNames:
    """What rules that the edge was given came from: whose they are, and the configured rule of each in that revision.

    number: what the edge calls them by. It never stands for anything else: what the edge counted by these rules may
    be told after others have replaced them.
    """

    number: int
    roles: Roles
    revision: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a set of roles amounts to.

    rules: as the edge wants them. rate_in, rate_out: bits per second from and to the client, 0 for no limit.
    split: what the client is told, with the addresses that names have.
    named: what the edge calls the rules by, and what they are here; None where there are none.
    """

    effective: Effective
    compiled: RuleSet
    rules: tuple[edge_link.Rule, ...]
    split: Split
    named: RuleNames | None = field(default=None, compare=False)

    @property
    def rule_set(self) -> int:
        """What the edge calls the rules by; 0 where there are none."""
        return 0 if self.named is None else self.named.number

    @property
    def rate_in(self) -> int:
        return self.effective.rate_up

    @property
    def rate_out(self) -> int:
        return self.effective.rate_down

    @property
    def flows(self) -> edge_link.FlowAudit:
        """Which flows are recorded."""
        return edge_link.FlowAudit(self.effective.session.flow_records)

    def only_told_otherwise(self, before: Rights) -> bool:
        """Whether nothing but `split` differs, which the edge does not enforce."""
        return self.effective is before.effective and self.rules is before.rules

    def keeping(self, before: Rights) -> Rights:
        """The same, with the very objects of before where they say the same."""
        if (self.effective, self.compiled, self.rules) != (before.effective, before.compiled, before.rules):
            return self
        return before if self.split == before.split else replace(before, split=self.split)


class InForce:
    """One per control plane. `tree` and `policy` are replaced, never changed."""

    def __init__(self, started: Configuration, tree: Configuration, revision: int) -> None:
        """started: what the server was started with, for settings that need a restart."""
        self._started = started
        self._resolved: Mapping[str, tuple[Address, ...]] = _NOTHING
        self._answered: Set[str] = NO_NAMES
        self._rights: dict[Roles, Rights] = {}
        self._older: dict[Roles, Rights] = {}  # of before the last change, to be compared with
        self._mapped: dict[str, Mapped] = {}
        # Numbers go on from anywhere: an edge may still use those of a control plane of before.
        self._rule_set = 1 + secrets.randbelow(2**31)
        # Those of rights that somebody has, and some that nobody has any more but the edge may speak of.
        self._rule_names: WeakValueDictionary[int, RuleNames] = WeakValueDictionary()
        self._lately_named: deque[RuleNames] = deque(maxlen=MAX_SETS)
        self.tree = as_running(tree, started)
        self.policy: Policy = compile_policy(self.tree, revision)

    @property
    def revision(self) -> int:
        return self.policy.revision

    @property
    def resolved(self) -> Mapping[str, tuple[Address, ...]]:
        """DNS name → addresses."""
        return self._resolved

    # -- changes -----------------------------------------------------------------------------------

    async def adopt(self, tree: Configuration, revision: int) -> None:
        """Another revision counts, once this returns. It is made ready in a thread: a large one takes a while."""
        running = as_running(tree, self._started)
        policy = await asyncio.to_thread(compile_policy, running, revision)
        mapped = {}
        for name, before in self._mapped.items():
            if (now := _mapped(policy, name)) is not None:
                mapped[name] = before if before == now else now
        self.tree, self.policy, self._mapped = running, policy, mapped
        self._begin_anew()

    def resolve(self, resolved: Mapping[str, tuple[Address, ...]], answered: Set[str] = NO_NAMES) -> None:
        """Names have other addresses from now on. answered: as `Names.answered`."""
        self._resolved, self._answered = MappingProxyType(dict(resolved)), answered
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._older = {**self._older, **self._rights}
        self._rights = {}
        if len(self._older) > MAX_SETS:
            self._older = {}

    # -- decisions ---------------------------------------------------------------------------------

    def page(self, policy: SignInPolicy | None) -> SignInPage:
        """The sign-in page of a policy, or the built-in one."""
        name = policy.page if policy is not None else ""
        return next((page for page in self.tree.sign_in_pages if page.name == name), _STANDARD_PAGE)

    def mapping(self, realm: str) -> Mapped | None:
        """What decides about the roles of that realm's users; the same object while it says the same."""
        found = self._mapped.get(realm)
        if found is None and (found := _mapped(self.policy, realm)) is not None:
            self._mapped[realm] = found
        return found

    def rights(self, roles: Roles) -> Rights:
        """What these roles amount to; the same object while it is the same. From any thread."""
        # A thread of the store judges resumptions. What it compiles while another revision is taken over
        # belongs to the table of before, or it would hide that revision from everybody with these roles.
        table = self._rights
        found = table.get(roles)
        if found is None:
            found = self._compile(roles)
            before = self._older.pop(roles, None)
            if before is not None:
                found = found.keeping(before)
            if found.rules and found.named is None:
                found = self._named(roles, found, before)
            if len(table) >= MAX_SETS:
                table.clear()
            table[roles] = found
        return found

    def rule_names(self, rule_set: int) -> RuleNames | None:
        """What the edge's name for rules stands for; None for one that was not given, or long ago."""
        return self._rule_names.get(rule_set)

    def _named(self, roles: Roles, rights: Rights, before: Rights | None) -> Rights:
        names = tuple(each.origin.name for each in rights.compiled.compiled)
        named = None if before is None or before.rules != rights.rules else before.named
        if named is None or named.names != names:
            self._rule_set = self._rule_set % (2**32 - 1) + 1
            named = RuleNames(self._rule_set, roles, self.policy.revision, names)
            self._rule_names[named.number] = named
            self._lately_named.append(named)
        return replace(rights, named=named)

    def _compile(self, roles: Roles) -> Rights:
        merged = effective(self.policy, roles)
        compiled = compile_rules(merged.access, self.policy.reserved, self._resolved)
        if compiled.omitted:
            log.error("too-many-rules", roles=list(roles), omitted=compiled.omitted)
        rules = tuple(
            edge_link.Rule(
                allow=rule.allow,
                protocol=rule.protocol,
                address=rule.address,
                prefix=rule.prefix,
                port_low=rule.port_low,
                port_high=rule.port_high,
                reserved=rule.reserved,
            )
            for rule in compiled.rules
        )
        split = split_of(self.policy, merged, self._resolved, self._answered)
        if split.omitted:
            log.error("too-many-split-networks", roles=list(roles), omitted=split.omitted)
        return Rights(merged, compiled, rules, split)


def _mapped(policy: Policy, name: str) -> Mapped | None:
    realm = policy.realms.get(name)
    if realm is None:
        return None
    named = dict.fromkeys(role for rule in realm.rules for role in rule.roles)
    return Mapped(realm, tuple(policy.roles.get(role) for role in named))


def admit(
    policy: Policy,
    audience: Audience,
    facts: SignInFacts,
    now: float,
    chosen: Roles = (),
    *,
    explain: bool = True,
) -> tuple[Decision, RoleDecision | None]:
    """Whether somebody who has signed in may go on, and with which roles; made anew from stored facts.

    chosen: roles that the person chose at sign-in. explain: without it the same is decided, with fewer words.
    Where there is no such realm, or it is closed to such clients, there is no role decision.
    """
    known: Mapping[str, Realm] = policy.realms if audience == "users" else policy.admin_realms
    realm = known.get(facts.realm)
    if realm is None:
        return Decision(False, (Reason(f"there is no realm {facts.realm}", "", False, _NO_REALM),)), None
    moment = local_time(now)
    tried = realms.may_try(realm, facts, moment)
    if not tried.allow:
        return tried, None
    decision = role_mapping.settle(
        role_mapping.map_roles(policy, realm, facts, moment, explain=explain), chosen
    )
    return Decision(bool(decision.roles), (*tried.reasons, *decision.reasons)), decision
