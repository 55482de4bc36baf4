"""The configuration tree: every setting with its meaning, unit, default and what is allowed.

The same models are the REST schema, the console's forms, the export and push format. A tree never
changes; sessions refer to the revision they were decided under. What no single setting can judge is in `checks`.

`fields`          how settings are declared
`system`          where the gateway listens, certificates, limits, logs, cluster
`authentication`  auth servers, realms, role mapping, administrators, sign-in policies, pages, notifications
`users`           roles; access control, connection profiles, split tunnelling, bandwidth
`connections`     connection sets, component sets
"""

from __future__ import annotations

from typing import Annotated

from lockgate.server.config.tree.authentication import (
    AdminRealm,
    AdminRole,
    AuthServer,
    Realm,
    SignIn,
    SignInNotification,
    SignInPage,
    SignInPolicy,
)
from lockgate.server.config.tree.connections import ComponentSet, ConnectionSet
from lockgate.server.config.tree.fields import Section, objects
from lockgate.server.config.tree.system import (
    Certificates,
    ClientLogs,
    ClientNetworks,
    Cluster,
    Esp,
    Gateway,
    Limits,
    Log,
    Metrics,
    PushTarget,
    Traces,
    UserRecords,
)
from lockgate.server.config.tree.users import (
    AccessControl,
    Bandwidth,
    ConnectionProfile,
    Role,
    SplitTunnelingNetworks,
)
from lockgate.server.config.values import FromList


class Configuration(Section):
    """The whole tree."""

    cluster: Cluster
    gateway: Gateway
    network: ClientNetworks = ClientNetworks()
    esp: Esp = Esp()
    limits: Limits = Limits()
    log: Log = Log()
    client_logs: ClientLogs = ClientLogs()
    metrics: Metrics = Metrics()
    traces: Traces = Traces()
    certificates: Certificates = Certificates()
    sign_in: SignIn = SignIn()
    auth_servers: Annotated[tuple[AuthServer, ...], FromList] = objects("Auth servers.", most=200)
    realms: Annotated[tuple[Realm, ...], FromList] = objects("User realms.", most=500)
    admin_realms: Annotated[tuple[AdminRealm, ...], FromList] = objects("Administrator realms.", most=100)
    roles: Annotated[tuple[Role, ...], FromList] = objects("User roles.")
    admin_roles: Annotated[tuple[AdminRole, ...], FromList] = objects(
        "Delegated administrator roles.", most=500
    )
    sign_in_policies: Annotated[tuple[SignInPolicy, ...], FromList] = objects(
        "Sign-in policies; the most exact URL decides.", most=500
    )
    sign_in_pages: Annotated[tuple[SignInPage, ...], FromList] = objects("Sign-in pages.", most=200)
    sign_in_notifications: Annotated[tuple[SignInNotification, ...], FromList] = objects(
        "Sign-in notifications.", most=200
    )
    access_control: Annotated[tuple[AccessControl, ...], FromList] = objects(
        "Access control for VPN tunnelling; the first that matches decides.", ordered=True
    )
    connection_profiles: Annotated[tuple[ConnectionProfile, ...], FromList] = objects(
        "Connection profiles; the first that applies decides.", most=500, ordered=True
    )
    split_tunneling_networks: Annotated[tuple[SplitTunnelingNetworks, ...], FromList] = objects(
        "Split-tunneling networks; all that apply count.", most=1000
    )
    bandwidth: Annotated[tuple[Bandwidth, ...], FromList] = objects(
        "Bandwidth; the first that applies decides.", most=500, ordered=True
    )
    connection_sets: Annotated[tuple[ConnectionSet, ...], FromList] = objects("Connection sets.", most=500)
    component_sets: Annotated[tuple[ComponentSet, ...], FromList] = objects("Component sets.", most=500)
    user_records: UserRecords = UserRecords()
    push_targets: Annotated[tuple[PushTarget, ...], FromList] = objects(
        "Servers that the configuration can be pushed to.", most=200
    )


__all__ = ["Configuration", "Section"]
