"""What config.toml says, put into a tree that is there: the rest of the tree stays."""

from __future__ import annotations

from typing import Any

from lockgate.server.config.seed.convert import convert
from lockgate.server.config.seed.tree import Seed
from lockgate.server.config.tree import Configuration

# The settings that the file speaks of, as paths of parts in an import. What it does not know (administrators,
# connection sets, certificates, the identity of the server) is left alone.
PARTS = (
    "gateway",
    "network",
    "esp",
    "limits",
    "log/level",
    "sign_in",
    "realms",
    "roles",
    "access_control",
    "connection_profiles",
    "split_tunneling_networks",
    "sign_in_policies",
    "sign_in_notifications",
)


def parts_of(seed: Seed) -> dict[str, Any]:
    """Path → JSON value, for a document that replaces these parts."""
    data = convert(seed, lambda: "0" * 32).model_dump(mode="json")  # no part holds an identity
    return {path: data["log"]["level"] if path == "log/level" else data[path] for path in PARTS}


def take_over(seed: Seed, tree: Configuration) -> Configuration:
    """`tree` with what the file says."""
    new = convert(seed, lambda: "0" * 32)
    keys = [path for path in PARTS if "/" not in path]
    update: dict[str, Any] = {key: getattr(new, key) for key in keys}
    update["log"] = tree.log.model_copy(update={"level": new.log.level})
    return tree.model_copy(update=update)
