"""Only the end of a sign-in makes an Identity."""

import ast
import copy
import pickle
from pathlib import Path

import pytest

import lockgate
from lockgate.model.facts import SignInFacts
from lockgate.model.identity import Identity, seal_identity

ALLOWED = {"model/identity.py", "server/auth/sign_in.py"}


FACTS = SignInFacts("alice", "System Local", "Users", "192.0.2.9", "", "", 0.0)


def make():
    return seal_identity(
        audience="users",
        roles=("Users",),
        chosen=(),
        method="password",
        serial=1,
        revision=1,
        facts=FACTS,
    )


def test_nobody_else_names_the_function_that_makes_one():
    root = Path(lockgate.__file__).parent
    users = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if getattr(node, "id", getattr(node, "attr", getattr(node, "name", ""))) in ("seal_identity", "_SEAL")
    }
    assert users == ALLOWED


def test_it_cannot_be_built_by_hand():
    with pytest.raises(TypeError, match="end of a sign-in"):
        Identity("users", "alice", "System Local", "Users", (), (), "password", 1, 1, FACTS, seal=object())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_it_cannot_be_copied(duplicate):
    with pytest.raises(TypeError):
        duplicate(make())


def test_its_fields_do_not_change():
    with pytest.raises(AttributeError):
        make().user = "bob"
