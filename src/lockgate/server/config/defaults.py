"""What every new gateway begins with, so that clients can be deployed without creating anything (guide: Installation Overview)."""

from __future__ import annotations

from collections.abc import Callable

from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import (
    RIGHTS,
    AdminRealm,
    AdminRole,
    AdminRoleMappingRule,
    LocalServer,
    Realm,
    RoleMappingRule,
    SignInPage,
    SignInPolicy,
    UserNameCondition,
)
from lockgate.server.config.tree.connections import ClientConnection, ComponentSet, ConnectionSet
from lockgate.server.config.tree.system import Cluster, Gateway
from lockgate.server.config.tree.users import AccessControl, Role
from lockgate.server.config.values import parse_network
from lockgate.server.store.records import ADMIN_SERVER, LOCAL_SERVER

REALM = "Users"
ADMIN_REALM = "Admin Users"
ROLE = "Users"
ADMIN_ROLE = ".Administrators"
READ_ONLY_ROLE = ".Read-Only Administrators"
PAGE = "Default Sign-In Page"
SET = "Default"
OPEN_POLICY = "Initial open policy"

EVERYTHING = (parse_network("0.0.0.0/0"), parse_network("::/0"))

_EVERYBODY = UserNameCondition(values=("*",))


def default_configuration(gateway: Gateway, new_guid: Callable[[], str]) -> Configuration:
    """A tree in which a local user signs in and reaches everything behind the gateway.

    new_guid: makes 32 random hexadecimal digits.
    """
    return Configuration(
        cluster=Cluster(server_id=new_guid()),
        gateway=gateway,
        auth_servers=(
            LocalServer(name=LOCAL_SERVER, description="Users kept by this gateway."),
            LocalServer(name=ADMIN_SERVER, description="Administrators kept by this gateway."),
        ),
        realms=(
            Realm(
                name=REALM,
                description="Local users.",
                server=LOCAL_SERVER,
                rules=(RoleMappingRule(name="Everybody", condition=_EVERYBODY, roles=(ROLE,)),),
            ),
        ),
        admin_realms=(
            AdminRealm(
                name=ADMIN_REALM,
                description="Local administrators.",
                server=ADMIN_SERVER,
                rules=(AdminRoleMappingRule(name="Everybody", condition=_EVERYBODY, roles=(ADMIN_ROLE,)),),
            ),
        ),
        roles=(Role(name=ROLE, description="Everybody who signs in."),),
        admin_roles=(administrators(ADMIN_ROLE, "write"), administrators(READ_ONLY_ROLE, "read")),
        sign_in_policies=(
            SignInPolicy(name="Default users", url="*/", page=PAGE, realms=(REALM,)),
            SignInPolicy(
                name="Default administrators",
                url="*/admin/",
                user_type="administrators",
                page=PAGE,
                admin_realms=(ADMIN_REALM,),
            ),
        ),
        sign_in_pages=(SignInPage(name=PAGE),),
        access_control=(
            AccessControl(
                name=OPEN_POLICY,
                description="Everything behind the gateway. Replace it by what users need.",
                action="allow",
                to=EVERYTHING,
            ),
        ),
        connection_sets=(
            ConnectionSet(
                name=SET,
                description="Connects to the server it comes from.",
                guid=new_guid(),
                connections=(ClientConnection(name="Default connection", guid=new_guid()),),
            ),
        ),
        component_sets=(ComponentSet(name=SET, connection_set=SET, components="minimal"),),
    )


def administrators(name: str, right: str) -> AdminRole:
    """A delegated role with the same right everywhere."""
    return AdminRole.model_validate({"name": name, **dict.fromkeys(RIGHTS, right)})
