"""The policy: what a revision of the configuration says about people, roles and packets, ready to decide with.

`server.config.compile` makes one of a configuration tree; nothing in it changes afterwards. Names and
units are those of the tree; what only administrators read, and what is no decision, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeAlias

from lockgate.model.access_rule import AccessRule, Address, AddressRange, Network
from lockgate.model.expression import Expression
from lockgate.model.pattern import Pattern, Patterns

Audience: TypeAlias = Literal["users", "administrators"]
Roaming: TypeAlias = Literal["enabled", "limit-to-subnet", "disabled"]
FlowRecords: TypeAlias = Literal["none", "denied", "all"]
Right: TypeAlias = Literal["none", "read", "write"]


# Who may try


@dataclass(frozen=True, slots=True)
class SourceRule:
    network: Network
    allow: bool


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """The first rule that covers the address decides."""

    rules: tuple[SourceRule, ...] = ()
    otherwise: bool = True


@dataclass(frozen=True, slots=True)
class BrowserRule:
    pattern: Pattern
    allow: bool


@dataclass(frozen=True, slots=True)
class BrowserPolicy:
    """The first rule that matches the user agent decides."""

    rules: tuple[BrowserRule, ...] = ()
    otherwise: bool = True


@dataclass(frozen=True, slots=True)
class CertificateRequirement:
    """attributes: attribute of the subject → what one of its values must match, where it is required."""

    require: Literal["none", "optional", "required"] = "none"
    attributes: tuple[tuple[str, Patterns], ...] = ()


@dataclass(frozen=True, slots=True)
class Restrictions:
    """Facts without which there is no sign-in (of a realm), or no role."""

    source: SourcePolicy = SourcePolicy()
    browser: BrowserPolicy = BrowserPolicy()
    certificate: CertificateRequirement = CertificateRequirement()


# Realms and role mapping


@dataclass(frozen=True, slots=True)
class UserNameCondition:
    values: Patterns
    negate: bool = False


@dataclass(frozen=True, slots=True)
class GroupCondition:
    values: Patterns
    negate: bool = False


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    attribute: str
    values: Patterns
    negate: bool = False


@dataclass(frozen=True, slots=True)
class CertificateCondition:
    attribute: str
    values: Patterns
    negate: bool = False


@dataclass(frozen=True, slots=True)
class ExpressionCondition:
    expression: Expression
    text: str  # as written


Condition: TypeAlias = (
    UserNameCondition | GroupCondition | AttributeCondition | CertificateCondition | ExpressionCondition
)


@dataclass(frozen=True, slots=True)
class RoleMappingRule:
    name: str
    condition: Condition
    roles: tuple[str, ...]
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Realm:
    """path: where it stands in the tree. uses_time: its rules look at the clock, so that the same facts
    may give other roles later. minimum_length: of passwords, in characters, 0 for no rule."""

    name: str
    server: str
    directory: str  # where groups and attributes come from; never empty
    restrictions: Restrictions
    rules: tuple[RoleMappingRule, ...]
    path: str
    minimum_length: int = 0
    max_sessions_per_user: int = 5
    max_users: int = 0  # 0 is no limit
    when_several: Literal["merge", "choose-role", "choose-rule"] = "merge"
    uses_time: bool = False


@dataclass(frozen=True, slots=True)
class AdminRealm(Realm):
    """Its rules give delegated administrator roles, all of them together."""

    session_seconds: int = 4 * 3600
    idle_seconds: int = 900


# Roles


@dataclass(frozen=True, slots=True)
class SessionOptions:
    length_seconds: int = 12 * 3600
    idle_seconds: int = 1800  # 0 is never
    heartbeat_timeout_seconds: int = 0  # 0 leaves it to the idle time-out
    reminder_seconds: int = 0  # 0 is none
    allow_extension: bool = False
    extension_limit_seconds: int = 3 * 86400  # from the sign-in on; 0 is none
    persistent_password_caching: bool = False
    upload_logs: bool = False
    flow_records: FlowRecords = "denied"
    roaming: Roaming = "enabled"
    roaming_prefix4: int = 24
    roaming_prefix6: int = 64


@dataclass(frozen=True, slots=True)
class UiOptions:
    title: str = ""
    greeting: str = ""
    show_client: bool = True
    show_sessions: bool = True


@dataclass(frozen=True, slots=True)
class Bookmark:
    name: str
    description: str
    url: str
    new_window: bool = True


@dataclass(frozen=True, slots=True)
class VpnOptions:
    split_tunneling: Literal["disabled", "enabled"] = "disabled"
    local_subnet_access: bool = False
    route_precedence: Literal["tunnel", "endpoint"] = "tunnel"
    route_monitor: bool = False
    traffic_enforcement_ipv4: bool = True
    traffic_enforcement_ipv6: bool = True
    auto_launch: bool = False
    component_set: str = ""  # "" is the default component set


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    restrictions: Restrictions = Restrictions()
    web: bool = True
    vpn_tunneling: bool = True
    session: SessionOptions = SessionOptions()
    ui: UiOptions = UiOptions()
    bookmarks: tuple[Bookmark, ...] = ()
    own_bookmarks: bool = False  # its users may add some
    vpn: VpnOptions = VpnOptions()


@dataclass(frozen=True, slots=True)
class AdminRole:
    """rights: area (a field of the tree's AdminRole) → right."""

    name: str
    rights: Mapping[str, Right]


# Signing in


@dataclass(frozen=True, slots=True)
class SignInPolicy:
    """A URL and what happens there.

    host: "*" and "" are any, "*.example.com" any that ends so; in lower case. path: begins and ends with /.
    """

    name: str
    enabled: bool
    host: str
    path: str
    audience: Audience
    page: str
    realms: tuple[str, ...]  # of its audience, the first is the default
    realm_choice: Literal["list", "typed"] = "list"
    realm_by_suffix: bool = False
    strip_suffix: bool = True
    fail_without_suffix: bool = False
    pre_notification: str = ""
    post_notification: str = ""


# Resource policies


@dataclass(frozen=True, slots=True)
class AppliesTo:
    """To whom a policy applies.

    selected: who has one of the roles. except: who has none of the roles.
    """

    to: Literal["all", "selected", "except"] = "all"
    roles: frozenset[str] = frozenset()

    def matches(self, roles: frozenset[str]) -> bool:
        """roles: all that somebody has."""
        if self.to == "all":
            return True
        return self.roles.isdisjoint(roles) == (self.to == "except")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    rule: AccessRule
    applies: AppliesTo = AppliesTo()


@dataclass(frozen=True, slots=True)
class ClientProxy:
    mode: Literal["none", "pac", "manual"] = "none"
    pac_url: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionProfile:
    """name: "" where no profile applies. addresses: empty is all client networks. mtu: 0 is theirs."""

    name: str = ""
    addresses: tuple[Network | AddressRange, ...] = ()
    transport: Literal["esp", "ssl"] = "esp"
    mtu: int = 0
    dns: tuple[Address, ...] = ()
    search_domains: tuple[str, ...] = ()
    proxy: ClientProxy = ClientProxy()
    applies: AppliesTo = AppliesTo()


@dataclass(frozen=True, slots=True)
class SplitNetworks:
    """names: DNS names in lower case, whose addresses count as well."""

    name: str
    include: bool
    networks: tuple[Network, ...]
    applies: AppliesTo = AppliesTo()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bits per second and session; 0 is no limit."""

    name: str
    rate_up: int
    rate_down: int
    applies: AppliesTo = AppliesTo()


@dataclass(frozen=True, slots=True)
class Policy:
    """One revision. Mappings go by name, in the order of the tree."""

    revision: int
    realms: Mapping[str, Realm]
    admin_realms: Mapping[str, AdminRealm]
    roles: Mapping[str, Role]
    admin_roles: Mapping[str, AdminRole]
    sign_in_policies: tuple[SignInPolicy, ...]
    notifications: Mapping[str, str]  # name → text
    access: tuple[AccessPolicy, ...]
    profiles: tuple[ConnectionProfile, ...]
    splits: tuple[SplitNetworks, ...]
    bandwidth: tuple[Bandwidth, ...]
    pools: tuple[Network, ...]
    reserved: tuple[Network, ...]  # opened by rules written for them only: pools, the gateway's own addresses
    gateway_name: str  # where clients find the gateway: a DNS name or an address

    @property
    def names(self) -> frozenset[str]:
        """DNS names that are to be resolved: those in access rules and in split-tunnelling networks, and with the
        latter the gateway's own."""
        split = frozenset(name for each in self.splits for name in each.names)
        own = {self.gateway_name} if split and not _is_address(self.gateway_name) else ()
        return frozenset((*(name for each in self.access for name in each.rule.names), *split, *own))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
