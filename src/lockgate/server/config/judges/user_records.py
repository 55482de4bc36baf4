"""Synchronisation of user records: logical auth servers, and the gateways that records are exchanged with."""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.tree import Configuration


def judge(tree: Configuration) -> Iterator[Finding]:
    for server in tree.auth_servers:
        path: Path = ("auth_servers", server.name, "logical_auth_server_name")
        if server.user_record_synchronization and not server.logical_auth_server_name:
            yield Finding(
                path,
                "records cannot be synchronised without it",
                "the name that the same users have at the other gateways",
            )
        if server.logical_auth_server_name and not server.user_record_synchronization:
            yield Finding(path, "the name has no effect", "user_record_synchronization = true", warning=True)
    peers = tree.user_records.peers
    for peer in peers:
        if not peer.token:
            yield Finding(
                ("user_records", "peers", peer.name, "token"),
                "nothing is exchanged with it: it has no token",
                "a token of that gateway with the scope user_records:write",
                warning=True,
            )
    if peers and not any(server.user_record_synchronization for server in tree.auth_servers):
        yield Finding(
            ("user_records", "peers"),
            "nothing is exchanged: no auth server has user_record_synchronization",
            "user_record_synchronization = true and a logical name at an auth server",
            warning=True,
        )
