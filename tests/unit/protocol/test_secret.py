import json
import pickle

import pytest

from lockgate.protocol.pulse.events import CredentialsGiven
from lockgate.protocol.secret import Secret

CANARY = "canary-password"
SECRET = Secret.of_text(CANARY)


def test_it_is_revealed_only_on_request() -> None:
    assert SECRET.reveal() == CANARY.encode()
    assert SECRET.reveal_text() == CANARY
    assert CANARY not in repr(SECRET)
    assert CANARY not in repr(CredentialsGiven("alice", SECRET))


@pytest.mark.parametrize(
    "use",
    [
        str,
        "{}".format,
        "{:>9}".format,
        json.dumps,
        pickle.dumps,
        hash,
        lambda secret: f"{secret}",
        lambda secret: "%s" % secret,  # noqa: UP031
        lambda secret: bytes(secret),
    ],
)
def test_other_uses_are_errors(use) -> None:
    with pytest.raises(TypeError) as error:
        use(SECRET)
    assert CANARY not in str(error.value)


def test_comparison_is_with_secrets_only() -> None:
    assert Secret(b"a") == Secret(bytearray(b"a"))
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != Secret(b"aa")
    assert Secret(b"a") != b"a"


def test_empty_is_false() -> None:
    assert not Secret(b"")
    assert SECRET


def test_bytes_that_are_not_text_do_not_show_in_the_error() -> None:
    with pytest.raises(ValueError, match="not UTF-8") as error:
        Secret(b"canary\xff").reveal_text()
    assert error.value.__context__ is None
