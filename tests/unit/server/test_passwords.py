"""Password hashes: right is right, wrong is wrong, nobody costs as much as somebody."""

import asyncio

import pytest

from lockgate.protocol.secret import Secret
from lockgate.server.auth.passwords import Busy, Hasher, hash_password, prepare
from lockgate.server.config.tree.authentication import Argon2
from tests.unit.server.support import CHEAP, run

PASSWORD = Secret.of_text("korrekt Pferd Batterie ë")


def verify(parameters, stored, password):
    async def work():
        hasher = Hasher(parameters)
        try:
            async with hasher.slot():
                return await hasher.verify(stored, password)
        finally:
            hasher.close()

    return run(work())


def test_the_stored_form_names_the_parameters_and_not_the_password():
    stored = hash_password(CHEAP, PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert stored != hash_password(CHEAP, PASSWORD)
    assert "Pferd" not in stored


CASES = [
    (PASSWORD, True),
    (Secret.of_text("korrekt Pferd Batterie e\u0308"), True),  # the same letter, composed by another system
    (Secret.of_text("korrekt Pferd Batterie Ë"), False),
    (Secret.of_text("korrekt Pferd Batterie ë "), False),
    (Secret(b""), False),
    (Secret(b"\xff\xfe"), False),
]


@pytest.mark.parametrize(("password", "right"), CASES)
def test_verify(password, right):
    assert verify(CHEAP, hash_password(CHEAP, PASSWORD), password) is right


def test_nobody_has_no_password():
    assert verify(CHEAP, None, PASSWORD) is False


def test_an_empty_password_is_wrong_even_if_it_was_stored():
    assert verify(CHEAP, hash_password(CHEAP, Secret(b"")), Secret(b"")) is False


def test_a_damaged_hash_is_wrong():
    assert verify(CHEAP, "$argon2id$v=19$m=64,t=1,p=1$x", PASSWORD) is False


def test_nobody_takes_the_same_work(monkeypatch):
    """Both compute one argon2 with the configured parameters."""
    asked = []
    parameters = Argon2(memory_kib=72, time_cost=3)
    from argon2 import PasswordHasher

    original = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher,
        "verify",
        lambda self, stored, given: asked.append(stored) or original(self, stored, given),
    )
    stored = hash_password(parameters, PASSWORD)
    verify(parameters, stored, PASSWORD)
    verify(parameters, None, PASSWORD)
    first, second = (entry.split("$") for entry in asked)
    assert first[:4] == second[:4] == ["", "argon2id", "v=19", "m=72,t=3,p=1"]
    assert [len(part) for part in first] == [len(part) for part in second]


def test_other_parameters_mean_a_new_hash():
    async def work():
        hasher = Hasher(Argon2(memory_kib=72, time_cost=1))
        old = hash_password(CHEAP, PASSWORD)
        async with hasher.slot():
            new = await hasher.renewed(old, PASSWORD)
            assert new.startswith("$argon2id$v=19$m=72")
            assert await hasher.verify(new, PASSWORD)
            assert await hasher.renewed(new, PASSWORD) is None
        hasher.close()

    run(work())


def test_the_queue_is_bounded():
    async def work():
        hasher = Hasher(Argon2(memory_kib=64, time_cost=1, concurrency=1, queue=2))
        leave = asyncio.Event()

        async def wait():
            async with hasher.slot():
                await leave.wait()

        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        with pytest.raises(Busy):
            async with hasher.slot():
                pass
        leave.set()
        await asyncio.gather(*waiting)
        async with hasher.slot():
            pass
        hasher.close()

    run(work())


def test_a_cancelled_wait_gives_its_place_back():
    async def work():
        hasher = Hasher(Argon2(memory_kib=64, time_cost=1, concurrency=1, queue=1))

        async def wait():
            async with hasher.slot():
                pass

        async with hasher.slot():
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            second = asyncio.create_task(wait())
            await asyncio.sleep(0)
        await second
        hasher.close()

    run(work())


def test_prepare_keeps_what_is_no_text():
    assert prepare(Secret(b"\xff")) == b"\xff"
