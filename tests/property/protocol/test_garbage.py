"""Any bytes are refused or understood, and nothing else happens: the fuzz targets without a fuzzer."""

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockgate.protocol.pulse.codes import Code
from lockgate.protocol.pulse.config import encode_config
from lockgate.protocol.pulse.esp_keys import EspKeys, encode_offer
from lockgate.protocol.secret import Secret
from tests.fuzz import fuzz_gateway_url, fuzz_http_connect
from tests.fuzz import fuzz_pulse_client as client
from tests.fuzz import fuzz_pulse_server as server
from tests.fuzz.harness import corpus
from tests.fuzz.run import TARGETS
from tests.transcripts.configurations import CONFIGURATIONS

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


# A gateway that is well-behaved up to its first question, and then anything.
GATEWAY = b"".join(
    server.step(name, content)
    for name, content in (
        (client.COMMAND, b""),
        (0, bytes.fromhex("00000002")),
        (1, bytes.fromhex("000a4c01")),
        (client.AVPS, b""),
    )
)
SIGNED_IN = b"".join(
    server.step(name, content)
    for name, content in (
        (client.ONE, bytes([client.CODES.index(Code.COOKIE)]) + b"00c0ffee"),
        (2, bytes.fromhex("000a4c0103020004")),
        (6, encode_config(CONFIGURATIONS["captured"])),
    )
)
GATEWAY_STEPS = st.one_of(
    st.builds(server.step, st.integers(0, len(client.FRAMES) - 1), st.binary(max_size=30)),
    st.builds(
        server.step,
        st.sampled_from([client.AVPS, client.PASSWORD, client.TOKEN, client.ONE, client.CONFIG]),
        st.binary(max_size=30),
    ),
    st.builds(
        lambda code, data: server.step(client.ONE, bytes([code]) + data),
        st.integers(0, len(client.CODES) - 1),
        st.binary(max_size=8),
    ),
    st.sampled_from([server.step(client.PASSWORD, b"\2" + code) for code in (b"\1", b"\x81", b"\x43")]),
    st.just(server.step(6, encode_offer(EspKeys(256, Secret(bytes(64)))))),
    st.integers(0, len(client.COMMANDS) - 1).map(lambda number: server.step(client.COMMAND + number)),
)


@given(
    st.sampled_from([b"\0", b"\1", b"\2", b"\0" + GATEWAY, b"\1" + GATEWAY, b"\0" + GATEWAY + SIGNED_IN]),
    st.lists(GATEWAY_STEPS, max_size=12),
)
@settings(max_examples=500)
def test_a_gateway_that_says_anything(start: bytes, steps: list[bytes]) -> None:
    client.one_input(start + b"".join(steps))


@given(st.sampled_from(corpus("pulse_client")), st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_flipped_bits(file, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    for at in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3)):
        content[at // 8] ^= 1 << at % 8
    client.one_input(bytes(content))


@given(
    st.lists(
        st.sampled_from(["gw", ".", ":", "/", "@", "[", "]", "%", "41", "::", "\\", "?", "#", " ", "ü", "/."])
    )
)
def test_what_people_might_type(parts: list[str]) -> None:
    fuzz_gateway_url.one_input("".join(parts).encode())
    fuzz_gateway_url.one_input(("https://gw" + "".join(parts)).encode())


LINES = [b"HTTP/1.1 200 OK", b"HTTP/1.1 407 No", b"HTTP/1.0 100", b"A: b", b"Proxy-Authenticate: Basic", b""]


@given(
    st.integers(0, 30),
    st.lists(st.sampled_from(LINES)),
    st.sampled_from([b"\r\n", b"\n"]),
    st.binary(max_size=3),
)
def test_answers_of_a_proxy(size: int, lines: list[bytes], end: bytes, rest: bytes) -> None:
    fuzz_http_connect.one_input(bytes([size]) + b"HTTP/1.1 200 OK\r\n" + end.join(lines) + end + rest)
