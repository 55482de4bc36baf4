"""config.toml becomes revision 1, counts until the first start, and is not read afterwards."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.server import setup
from lockgate.server.config.checks import validate
from lockgate.server.config.current import bring_up
from lockgate.server.config.seed.convert import convert
from lockgate.server.config.seed.load import check_bytes
from lockgate.server.config.seed.takeover import PARTS, parts_of, take_over
from lockgate.server.config.seed.tree import Seed, SignIn
from lockgate.server.config.service import ConfigService
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.system import Gateway
from lockgate.server.store import open_store
from lockgate.server.supervisor.prepare import current_configuration
from tests.unit.server.config.support import plain
from tests.unit.server.support import CHEAP, run

SEED = Seed(gateway=Gateway(hostname="gw.example.org"), sign_in=SignIn(argon2=CHEAP))
TEXT = """
[gateway]
hostname = "gw.example.org"
[network]
split_include = ["10.77.0.0/16"]
[sign_in]
notice = "Be kind."
[[access]]
name = "web/x"
action = "allow"
to = ["10.77.0.80/32"]
[[access]]
name = "web-x"
action = "allow"
to = ["10.77.0.81/32"]
[[access]]
name = "\\u0007 ."
action = "deny"
to = ["10.77.0.82/32"]
"""


@pytest.fixture
def directory(tmp_path):
    return setup.create(tmp_path / "D", SEED, None).directory


def up(directory, **how):
    async def work():
        store = await open_store(directory)
        try:
            tree = await bring_up(store, directory, **how)
            heads = [
                (each.number, each.author, each.reason) for each in reversed(await store.revisions.log(9))
            ]
            return tree, heads
        finally:
            await store.close()

    return run(work())


def edit(directory, text):
    directory.config.write_text(directory.config.read_text() + text)


def test_until_the_first_start_the_file_counts(directory, capfd):
    first, heads = up(directory)
    assert heads == [(1, "config.toml", "first start")]
    assert up(directory) == (first, heads)
    directory.config.write_text(
        directory.config.read_text().replace("[limits]", "[limits]\nhalf_open_total = 99")
    )
    second, heads = up(directory, starting=True)
    assert heads[1:] == [(2, "config.toml", "changed before the first start")]
    assert second.limits.half_open_total == 99
    assert second.model_copy(update={"limits": first.limits}) == first  # identities too
    assert "config-toml-not-read" not in capfd.readouterr().out
    edit(directory, '[[access]]\nname = "x"\naction = "deny"\nto = ["0.0.0.0/0"]\n')
    assert up(directory, starting=True) == (second, heads)
    said = capfd.readouterr().out
    assert said.count("config-toml-not-read") == 1
    assert f"lockgate config import --dir {directory.path} {directory.config}" in said
    directory.config.unlink()
    assert up(directory, starting=True) == (second, heads)


def test_what_administrators_committed_is_not_overwritten(directory):
    async def work():
        from lockgate.server.audit import Audit
        from lockgate.server.config.edits import SetValue
        from lockgate.server.vault import open_vault

        store = await open_store(directory)
        try:
            await bring_up(store, directory)
            config = ConfigService(store, open_vault(directory), Audit(store.audit))
            await config.load()
            await config.apply("ann", "", [SetValue("network/mtu", 1300)])
            edit(directory, "# a remark\n")
            assert (await bring_up(store, directory)).network.mtu == 1300
        finally:
            await store.close()

    run(work())


def test_a_wrong_file_is_said_with_its_place(directory):
    edit(directory, "nonsense = 1\n")
    with pytest.raises(ProblemError) as caught:
        up(directory)
    assert caught.value.problem.code == "config-invalid"
    with pytest.raises(ProblemError) as again:
        current_configuration(directory, None)
    assert again.value.problem == caught.value.problem


def test_the_first_stage_gets_the_tree_from_a_process(directory):
    tree = current_configuration(directory, None)
    assert tree == up(directory)[0]
    command = [sys.executable, "-m", "lockgate.server.config.current", "--dir", str(directory.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert Configuration.model_validate(json.loads(done.stdout)) == tree
    directory.store_key.unlink()
    with pytest.raises(ProblemError) as caught:
        current_configuration(directory, None)
    assert caught.value.problem.code == "store-key-missing"


def test_a_file_says_the_same_in_the_trees_terms():
    seed = check_bytes(TEXT.encode(), "c.toml").configuration
    assert seed is not None
    tree = convert(seed, lambda: "0" * 32)
    assert [rule.name for rule in tree.access_control] == ["web-x", "web-x 2", "rule"]
    assert tree.sign_in_policies[0].pre_notification == "Notice"
    assert tree.roles[0].vpn.split_tunneling == "enabled"


names = st.text(min_size=1, max_size=64).filter(str.strip)
rules = st.lists(names, unique=True, max_size=6)


@given(rules, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_valid_file_makes_a_valid_tree(listed, splits):
    lines = ['[gateway]\nhostname = "gw.example.org"']
    if splits:
        lines.append('[network]\nsplit_include = ["10.77.0.0/16"]\nsplit_exclude = ["10.78.0.0/16"]')
    for name in listed:
        quoted = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines.append(f'[[access]]\nname = {quoted}\naction = "deny"\nto = ["10.0.0.0/8"]')
    checked = check_bytes("\n".join(lines).encode("utf-8", "replace"), "c.toml")
    if checked.configuration is None:
        return
    guids = iter(f"{number:032x}" for number in range(10))
    tree = convert(checked.configuration, lambda: next(guids))
    assert validate(plain(tree)).errors == ()
    assert take_over(checked.configuration, tree) == tree
    assert set(parts_of(checked.configuration)) == set(PARTS)
