"""Trees to change: a small one with something of everything, and strategies for edits of it."""

from __future__ import annotations

import secrets
from typing import Any

from hypothesis import strategies as st

from lockgate.protocol.secret import Secret
from lockgate.server.config import edits
from lockgate.server.config.checks import validate
from lockgate.server.config.defaults import default_configuration
from lockgate.server.config.paths import Data
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import Gateway
from lockgate.server.vault import Vault

TOKEN = "lgt_planted-token-of-a-push-target"  # planted, to be looked for
VAULT = Vault(Secret(bytes(range(32))))


def default_tree() -> Configuration:
    return default_configuration(Gateway(hostname="gw.example.org"), lambda: secrets.token_hex(16))


def plain(tree: Configuration) -> Data:
    data: Data = tree.model_dump(mode="json")
    return data


def small_tree() -> Data:
    """Three roles, four rules in order, references between all kinds of objects, a secret."""
    data = plain(default_tree())
    role, rule = data["roles"][0], data["access_control"][0]
    data["roles"] += [{**role, "name": name} for name in ("Staff", "Guests")]
    data["access_control"] += [
        {**rule, "name": name, "applies": {"to": "selected", "roles": roles}}
        for name, roles in (("Intranet", ["Staff"]), ("Printers", ["Staff", "Guests"]), ("DNS", ["Guests"]))
    ]
    mapping = data["realms"][0]["rules"][0]
    condition = {"kind": "group", "values": ["staff"], "negate": False}
    data["realms"][0]["rules"].insert(
        0, {**mapping, "name": "Staff", "condition": condition, "roles": ["Staff"]}
    )
    data["push_targets"] = [
        {
            "name": "other",
            "description": "",
            "url": "https://other.example.org:8443",
            "token": VAULT.seal(TOKEN),
            "ca": "",
        }
    ]
    assert validate(data).errors == ()
    return data


NAMES = ("Users", "Staff", "Guests", "Intranet", "New", "Newer")
COLLECTIONS = ("roles", "access_control", "realms/Users/rules", "auth_servers")


def names_at(data: Data, path: str) -> list[str]:
    value: Any = data
    for part in path.split("/"):
        value = value[part] if isinstance(value, dict) else next(e for e in value if e["name"] == part)
    return [entry["name"] for entry in value]


@st.composite
def edit_lists(draw: st.DrawFn, data: Data, most: int = 6) -> list[edits.Edit]:
    """Edits that can be done one after the other."""
    done: list[edits.Edit] = []
    for _ in range(draw(st.integers(0, most))):
        collection = draw(st.sampled_from(COLLECTIONS))
        there = names_at(data, collection)
        kind = draw(st.sampled_from(["set", "insert", "move", "remove", "rename", "deep", "section"]))
        before = draw(st.sampled_from([None, *there]))
        free = [name for name in NAMES if name not in there]
        edit: edits.Edit
        if kind == "section":
            value = draw(st.sampled_from([576, 1300, 1400]))
            edit = edits.SetValue("network/mtu", value)
        elif kind == "insert" and free:
            model = {"roles": {}, "auth_servers": {"kind": "local"}}.get(collection)
            if model is None:
                model = {"action": "deny", "to": ["192.0.2.0/24"]}
                if collection.endswith("rules"):
                    model = {"condition": {"kind": "user", "values": ["a*"]}, "roles": ["Users"]}
            edit = edits.Insert(f"{collection}/{draw(st.sampled_from(free))}", model, before)
        elif there and kind == "move":
            edit = edits.Move(f"{collection}/{draw(st.sampled_from(there))}", before)
        elif there and kind == "remove":
            edit = edits.Remove(f"{collection}/{draw(st.sampled_from(there))}")
        elif there and free and kind == "rename":
            edit = edits.Rename(f"{collection}/{draw(st.sampled_from(there))}", draw(st.sampled_from(free)))
        elif there and collection != "realms/Users/rules":
            edit = edits.SetValue(
                f"{collection}/{draw(st.sampled_from(there))}/description",
                draw(st.sampled_from(["", "a", "b"])),
            )
        else:
            continue
        data = edits.apply(data, [edit])
        done.append(edit)
    return done


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**4000)
    | st.floats(allow_nan=True)
    | st.text(st.characters(categories=None), max_size=8)
    | st.sampled_from(["*", "Users", "local", "allow", "sealed:v1:AAAA", "10.0.0.0/8", "../x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
