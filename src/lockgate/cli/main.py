"""The `lockgate` command: a list of commands. Their modules are imported when they are called."""

from __future__ import annotations

import click

from lockgate import __version__
from lockgate.cli.lazy import Lazy, LazyGroup

SERVER = LazyGroup(
    "server",
    {
        "init": Lazy("lockgate.cli.init:init", "Make the data directory of a new gateway."),
        "run": Lazy("lockgate.cli.server:run", "Run the gateway in the foreground."),
        "status": Lazy("lockgate.cli.server:status", "Show a running gateway."),
        "sessions": Lazy("lockgate.cli.server:sessions", "List the sessions."),
        "extend": Lazy("lockgate.cli.server:extend", "Extend a session."),
        "disconnect": Lazy("lockgate.cli.server:disconnect", "End sessions."),
        "peers": Lazy("lockgate.cli.user_record:peers", "List the gateways that records are exchanged with."),
    },
    help="Make and run a gateway.",
)

USER = LazyGroup(
    "user",
    {
        "add": Lazy("lockgate.cli.user:add", "Add a user."),
        "passwd": Lazy("lockgate.cli.user:passwd", "Give a user a new password."),
        "disable": Lazy("lockgate.cli.user:disable", "Keep a user from signing in; end the user's sessions."),
        "set": Lazy("lockgate.cli.user:set_user", "Change groups, attributes and the like of a user."),
        "enable": Lazy("lockgate.cli.user:enable", "Let a disabled user sign in again."),
        "delete": Lazy("lockgate.cli.user:delete", "Delete a user; end the user's sessions."),
        "list": Lazy("lockgate.cli.user:list_users", "List all users."),
        "record": Lazy(
            "lockgate.cli.user_record:record", "Show or delete a user's bookmarks and preferences."
        ),
    },
    help="Manage local users, with the server running or stopped.",
)

CONFIG = LazyGroup(
    "config",
    {
        "show": Lazy("lockgate.cli.config_show:show", "Show the configuration or a part of it."),
        "set": Lazy("lockgate.cli.config_change:set_", "Set a setting or section."),
        "add": Lazy("lockgate.cli.config_change:add", "Add an object to a collection."),
        "remove": Lazy("lockgate.cli.config_change:remove", "Remove an object, reset a setting."),
        "move": Lazy("lockgate.cli.config_change:move", "Move an object in its collection."),
        "rename": Lazy("lockgate.cli.config_change:rename", "Rename an object and all references to it."),
        "edit": Lazy("lockgate.cli.config_change:edit", "Edit the configuration in $EDITOR."),
        "drafts": Lazy("lockgate.cli.config_show:drafts", "List the drafts."),
        "validate": Lazy("lockgate.cli.config_show:validate", "Say what is wrong with a draft."),
        "diff": Lazy("lockgate.cli.config_show:diff", "Compare revisions, or show what a draft changes."),
        "rebase": Lazy("lockgate.cli.config_change:rebase", "Bring a draft up to the current revision."),
        "commit": Lazy("lockgate.cli.config_change:commit", "Put a draft in force."),
        "discard": Lazy("lockgate.cli.config_change:discard", "Throw a draft away."),
        "log": Lazy("lockgate.cli.config_show:log", "List the revisions."),
        "rollback": Lazy("lockgate.cli.config_change:rollback", "Go back to an older revision."),
        "export": Lazy("lockgate.cli.config_transfer:export", "Write the configuration to a file."),
        "import": Lazy("lockgate.cli.config_transfer:import_", "Take a file over."),
        "push": Lazy("lockgate.cli.config_transfer:push", "Send the configuration to other servers."),
        "schema": Lazy("lockgate.cli.config_show:schema", "List what can be configured."),
        "check": Lazy("lockgate.cli.config:check", "Check the file of a first start."),
    },
    help="Show and change the configuration, with the server running or stopped.",
)

AUDIT = LazyGroup(
    "audit",
    {
        "verify": Lazy("lockgate.cli.audit:verify", "Check that no record was changed, removed or moved."),
        "list": Lazy("lockgate.cli.audit:list_records", "Show records, the newest last."),
        "export": Lazy("lockgate.cli.audit:export", "Write records as JSON lines, CSV or syslog text."),
        "accept": Lazy("lockgate.cli.audit:accept", "Go on after damage; that is written down."),
    },
    help="Look at the audit: sign-ins, sessions, what administrators did.",
)

TOKEN = LazyGroup(
    "token",
    {
        "create": Lazy("lockgate.cli.token:create", "Make a token; it is shown once."),
        "list": Lazy("lockgate.cli.token:list_tokens", "List the tokens."),
        "revoke": Lazy("lockgate.cli.token:revoke", "End a token."),
    },
    help="Manage tokens for the REST interface.",
)

SIGN_IN_PAGES = LazyGroup(
    "sign-in-pages",
    {
        "upload": Lazy("lockgate.cli.sign_in_pages:upload", "Store an archive of custom sign-in pages."),
        "list": Lazy("lockgate.cli.sign_in_pages:list_archives", "List the archives in use."),
    },
    help="Manage custom sign-in pages.",
)

CLIENT = LazyGroup(
    "client",
    {
        "run": Lazy("lockgate.cli.client:run", "Run the client service in the foreground."),
        "reset": Lazy("lockgate.cli.client:reset", "Undo everything a killed client left behind."),
        "sleep": Lazy("lockgate.cli.client:sleep", "Tell the service that the machine will be suspended."),
        "wake": Lazy("lockgate.cli.client:wake", "Tell the service that the machine has woken up."),
        "annotate": Lazy("lockgate.cli.client:annotate", "Write a remark into the debug log."),
        "log-level": Lazy("lockgate.cli.client:log_level", "Make the debug log normal or detailed."),
        "stop": Lazy("lockgate.cli.client:stop", "End the service."),
    },
    help="Run the service that owns this machine's connections.",
)

lockgate = LazyGroup(
    "lockgate",
    {
        "connect": Lazy("lockgate.cli.connect:connect", "Connect this machine to a gateway."),
        "status": Lazy("lockgate.cli.connections:status", "List the connections."),
        "details": Lazy(
            "lockgate.cli.connections:details", "Show a connection: addresses, networks, traffic."
        ),
        "disconnect": Lazy("lockgate.cli.connections:disconnect", "End a connection and its session."),
        "suspend": Lazy("lockgate.cli.connections:suspend", "Take a connection down, keep its session."),
        "resume": Lazy("lockgate.cli.connections:resume", "Bring a suspended connection up again."),
        "client": CLIENT,
        "server": SERVER,
        "user": USER,
        "config": CONFIG,
        "explain": Lazy("lockgate.cli.explain:explain", "Say why a user may reach something, or may not."),
        "whatif": Lazy("lockgate.cli.explain:whatif", "Say who would gain and lose what under a draft."),
        "audit": AUDIT,
        "token": TOKEN,
        "sign-in-pages": SIGN_IN_PAGES,
        "backup": Lazy("lockgate.cli.backup:backup", "Write a whole gateway to one encrypted file."),
        "restore": Lazy("lockgate.cli.backup:restore", "Make a gateway what a backup says."),
    },
    help="Lockgate: an open secure-access gateway and client.",
)
lockgate = click.version_option(__version__, prog_name="lockgate")(lockgate)


def main() -> None:
    """Entry point of the installed command."""
    lockgate(prog_name="lockgate")
