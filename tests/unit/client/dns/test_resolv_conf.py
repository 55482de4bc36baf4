from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.dns import resolv_conf
from lockgate.client.linux.dns.resolv_conf import ResolvConf

SAVED = {"driver": "file", "was": "file", "content": "AAAA" * 100}
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
options = st.sampled_from(["ndots:2", "edns0", "single-request", "inet6"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ResolvConf()),
        (b"nameserver 10.0.0.1\nnameserver\t::1 \n", ResolvConf((ip_address("10.0.0.1"), ip_address("::1")))),
        (b"nameserver fe80::1%eth0\n", ResolvConf((ip_address("fe80::1%eth0"),))),
        (b"nameserver 10.0.0.1 # home\r\n", ResolvConf((ip_address("10.0.0.1"),))),
        (b" nameserver 10.0.0.1\n#nameserver 10.0.0.1\nnameserver10.0.0.1\nnameserver x\n", ResolvConf()),
        (b"domain a.test\nsearch b.test c.test\n", ResolvConf(search=("b.test", "c.test"))),
        (b"search b.test c.test\ndomain a.test x\n", ResolvConf(search=("a.test",))),
        (b"options ndots:2\noptions edns0 rotate", ResolvConf(options=("ndots:2", "edns0", "rotate"))),
        (
            b"nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n",
            ResolvConf(tuple(map(ip_address, ("1.0.0.1", "1.0.0.2", "1.0.0.3")))),
        ),
    ],
)
def test_parse(content: bytes, told: ResolvConf) -> None:
    assert resolv_conf.parse(content) == told


@given(
    st.binary()
    | st.lists(st.sampled_from([b"nameserver", b"search", b" ", b"\n", b"1.1.1.1", b"%"])).map(b"".join)
)
def test_reading_is_total(content: bytes) -> None:
    resolv_conf.parse(content)
    resolv_conf.embedded(content)
    assert resolv_conf.is_ours(content) == any(
        line.startswith(b"# lockgate") for line in content.split(b"\n")
    )


@given(
    st.lists(st.ip_addresses(), max_size=5),
    st.lists(names, max_size=6),
    st.lists(options, max_size=3),
    st.binary(max_size=2000),
)
def test_ours_says_what_it_was_given_and_carries_the_former_state(
    servers: list, search: list[str], kept: list[str], content: bytes
) -> None:
    saved = {"driver": "file", "content": content.hex()}
    ours = resolv_conf.render(servers, search, kept, saved, patience="timeout:2")
    told = resolv_conf.parse(ours)
    assert told == ResolvConf(tuple(servers[:3]), tuple(search), (*kept, "timeout:2"))
    assert resolv_conf.is_ours(ours)
    assert resolv_conf.embedded(ours) == saved
    assert max(map(len, ours.split(b"\n"))) < 1024 or search


@given(st.binary(max_size=400).filter(lambda old: b"# lockgate" not in old))
def test_a_write_cut_short_is_still_recognised(old: bytes) -> None:
    """A kill may leave the start of the new text before the end of the old, in either direction."""
    ours = resolv_conf.render([ip_address("10.0.0.1")], [], [], SAVED, patience="timeout:2")
    assert resolv_conf.is_ours(ours + old[len(ours) :])
    # Back: the whole former content is written, and our tail not yet cut off.
    assert resolv_conf.is_ours(old + ours[len(old) :])


def test_options_of_the_former_file_that_are_not_taken_over() -> None:
    former = ["timeout:30", "attempts:9", "trust-ad", "rotate", "ndots:3"]
    ours = resolv_conf.render([], [], former, SAVED, patience="timeout:2 attempts:2")
    assert resolv_conf.parse(ours).options == ("ndots:3", "timeout:2", "attempts:2")


def test_damaged_memory_is_none() -> None:
    ours = resolv_conf.render([], [], [], SAVED, patience="timeout:2")
    assert resolv_conf.embedded(ours.replace(b"# lockgate-saved: ey", b"# lockgate-saved: !!")) is None
    assert resolv_conf.embedded(b"# lockgate-saved: W10=\n") is None  # a list
