"""Any bytes are refused or understood, and nothing else happens: the fuzz targets without a fuzzer."""

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_pulse_server as server
from tests.fuzz.harness import corpus
from tests.fuzz.run import TARGETS

KEPT = [(name, file) for name in TARGETS for file in corpus(name)]


@pytest.mark.parametrize(("name", "file"), KEPT, ids=lambda value: getattr(value, "name", value))
def test_the_kept_inputs(name: str, file) -> None:
    importlib.import_module(f"tests.fuzz.fuzz_{name}").one_input(file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=400))
def test_random_bytes(name: str, data: bytes) -> None:
    importlib.import_module(f"tests.fuzz.fuzz_{name}").one_input(data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_inputs(name: str, data: st.DataObject) -> None:
    """A kept input with some bytes replaced, cut out or doubled."""
    content = bytearray(data.draw(st.sampled_from(corpus(name))).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["replace", "cut", "double", "insert"])):
            case "replace":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 8))]
            case "double":
                content[at:at] = content[at : at + 16]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=8))
    importlib.import_module(f"tests.fuzz.fuzz_{name}").one_input(bytes(content))


STEPS = st.one_of(
    st.builds(server.step, st.integers(0, len(server.FRAMES) - 1), st.binary(max_size=30)),
    st.builds(
        server.step,
        st.sampled_from([server.AVPS, server.ANSWER, server.WITH_TOKEN, server.WITH_NAME_AND_PASSWORD]),
        st.binary(max_size=30),
    ),
    st.integers(0, len(server.COMMANDS) - 1).map(lambda number: server.step(server.COMMAND + number)),
)
INTRODUCTION = b"".join(
    server.step(name, content)
    for name, content in (
        (0, bytes.fromhex("00010202")),
        (6, b"clientHostName=laptop1 clientIp=10.99.0.2\n\0"),
        (1, bytes.fromhex("000a4c010201000e01616e6f6e796d6f7573")),
        (server.ANSWER, b"\0"),
    )
)


@given(st.sampled_from([b"\0", b"\1", b"\0" + INTRODUCTION]), st.lists(STEPS, max_size=12))
@settings(max_examples=500)
def test_frames_and_commands_in_any_order(start: bytes, steps: list[bytes]) -> None:
    server.one_input(start + b"".join(steps))
