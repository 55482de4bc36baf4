"""The vault: what was sealed is opened by the same key for the same purpose, and by nothing else."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.config.tree.fields import SEALED, parse_secret
from lockgate.server.datadir import DataDirectory
from lockgate.server.vault import PREFIX, Vault, make_key, open_vault

VAULT = Vault(Secret(bytes(range(32))))


@given(st.text(max_size=200))
def test_what_was_sealed_is_opened(text):
    sealed = VAULT.seal(text)
    assert VAULT.open(sealed) == text
    assert sealed.startswith(PREFIX)
    assert parse_secret(sealed) == sealed  # the tree takes it


@given(st.integers(0, 10_000), st.text(min_size=1, max_size=20))
def test_one_changed_character_opens_nothing(place, text):
    sealed = VAULT.seal(text)
    at = len(PREFIX) + place % (len(sealed) - len(PREFIX))
    if sealed[at] == "=":
        return
    changed = sealed[:at] + ("B" if sealed[at] == "A" else "A") + sealed[at + 1 :]
    with pytest.raises(ProblemError) as caught:
        VAULT.open(changed)
    assert caught.value.problem.code == "secret-unreadable"


@pytest.mark.parametrize(
    "sealed", ["", "x", PREFIX, PREFIX + "AAAA", PREFIX + "!!", PREFIX + "A" * 41, "plain"]
)
def test_what_is_no_sealed_text_is_refused(sealed):
    with pytest.raises(ProblemError) as caught:
        VAULT.open(sealed)
    assert caught.value.problem.code == "secret-unreadable"


def test_keys_and_purposes_are_kept_apart():
    sealed = VAULT.seal("s3cret", "one")
    assert PREFIX == SEALED
    assert sealed != VAULT.seal("s3cret", "one")
    assert VAULT.open(sealed, "one") == "s3cret"
    for vault, purpose in ((VAULT, "two"), (Vault(Secret(bytes(32))), "one")):
        with pytest.raises(ProblemError):
            vault.open(sealed, purpose)
    assert len({VAULT.subkey("a"), VAULT.subkey("b"), Vault(Secret(bytes(32))).subkey("a")}) == 3
    assert VAULT.subkey("a") == VAULT.subkey("a")
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(Secret(b"short"))


def test_the_key_is_made_once_and_for_the_owner(tmp_path):
    places = [DataDirectory(tmp_path)] * 8
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(make_key, places)) == [None] * 8
    first = places[0].store_key.read_bytes()
    assert [file.name for file in places[0].store_key.parent.iterdir()] == ["store.key"]
    assert stat.S_IMODE(places[0].store_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(places[0].store_key.parent.stat().st_mode) == 0o700
    make_key(places[0])
    assert places[0].store_key.read_bytes() == first
    assert open_vault(places[0]).open(open_vault(places[0]).seal("x")) == "x"
