from __future__ import annotations

from ipaddress import ip_address

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client.linux.dns import forwarding
from lockgate.client.linux.dns.forwarding import MAX_UDP_ANSWER, Query, Routes, Way

INSIDE, OUTSIDE = (ip_address("10.0.0.53"),), (ip_address("192.0.2.53"), forwarding.ADDRESS)
ROUTES = Routes(INSIDE, "tun0", ("corp.example", "intern"), OUTSIDE, ("lan", "home.example"))

labels = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
names = st.lists(labels, max_size=5).map(".".join)


def query(name: str = "www.corp.example", kind: str = "A", **options: object) -> Query:
    found = forwarding.read_query(dns.message.make_query(name, kind, **options).to_wire())
    assert isinstance(found, Query)
    return found


def answer_to(wire: bytes, *texts: str) -> dns.message.Message:
    answer = dns.message.make_response(dns.message.from_wire(wire))
    answer.answer += [dns.rrset.from_text(answer.question[0].name, 60, "IN", "TXT", text) for text in texts]
    return answer


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("corp.example", Way.INSIDE),
        ("WWW.Corp.Example", Way.INSIDE),
        ("_ldap._tcp.dc.intern", Way.INSIDE),
        ("www.example", Way.OUTSIDE),
        ("evilcorp.example", Way.OUTSIDE),
        ("corp.example.net", Way.OUTSIDE),
        (".", Way.OUTSIDE),
        # What a stub resolver makes of a corporate name that does not exist.
        ("nowhere.corp.example.lan", Way.NOWHERE),
        ("corp.example.home.example", Way.NOWHERE),
        ("printer.lan", Way.OUTSIDE),
        ("lan", Way.OUTSIDE),
    ],
)
def test_who_is_asked(name: str, way: Way) -> None:
    assert ROUTES.way(query(name).text) is way


@given(names, st.sampled_from(ROUTES.domains))
def test_no_name_under_a_corporate_domain_goes_outside(name: str, domain: str) -> None:
    full = query(f"{name}.{domain}" if name else domain)
    assert ROUTES.servers(ROUTES.way(full.text)) == INSIDE


@given(names)
def test_without_domains_every_name_goes_inside(name: str) -> None:
    assert Routes(INSIDE, "tun0").way(query(name or ".").text) is Way.INSIDE


def test_the_forwarder_is_not_its_own_server() -> None:
    assert ROUTES.servers(Way.OUTSIDE) == (ip_address("192.0.2.53"),)
    assert ROUTES.servers(Way.NOWHERE) == ()


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda end: query_wire() + end))
def test_reading_is_total(wire: bytes) -> None:
    found = forwarding.read_query(wire)
    if isinstance(found, bytes):
        assert found[:2] == wire[:2]
        assert dns.message.from_wire(found).flags & dns.flags.QR
    if isinstance(found, Query):
        assert forwarding.is_answer(answer_to(forwarding.ask(found, 7)).to_wire(), found, 7)
    forwarding.is_answer(wire, query(), 0)


def query_wire() -> bytes:
    return dns.message.make_query("www.corp.example", "A").to_wire()


def test_what_deserves_no_answer_or_an_error() -> None:
    wire = query_wire()
    assert forwarding.read_query(answer_to(wire).to_wire()) is None
    assert forwarding.read_query(wire[:11]) is None
    assert forwarding.read_query(wire + b"\0" * 4096) is None
    cut = forwarding.read_query(wire[:-1])
    assert isinstance(cut, bytes)
    assert dns.message.from_wire(cut).rcode() == dns.rcode.FORMERR
    update = dns.message.make_query("corp.example", "SOA")
    update.set_opcode(dns.opcode.NOTIFY)
    for refused in (update, dns.message.make_query("corp.example", "AXFR")):
        error = forwarding.read_query(refused.to_wire())
        assert isinstance(error, bytes)
        assert dns.message.from_wire(error).rcode() == dns.rcode.NOTIMP
        assert error[:2] == refused.id.to_bytes(2, "big")


def test_nothing_but_the_question_goes_on() -> None:
    """Another record of the same message could carry a corporate name to the servers outside."""
    message = dns.message.make_query("www.example.net", "AAAA", use_edns=0, want_dnssec=True, payload=4096)
    message.additional.append(dns.rrset.from_text("secret.corp.example.", 1, "IN", "A", "10.0.0.1"))
    message.flags |= dns.flags.CD
    found = forwarding.read_query(message.to_wire())
    assert isinstance(found, Query)
    wire = forwarding.ask(found, 4711)
    assert b"secret" not in wire
    sent = dns.message.from_wire(wire)
    assert sent.id == 4711
    assert (sent.question, sent.answer, sent.authority, sent.additional) == (message.question, [], [], [])
    assert sent.flags == message.flags
    assert (sent.edns, sent.payload, bool(sent.ednsflags & dns.flags.DO)) == (0, MAX_UDP_ANSWER, True)
    assert dns.message.from_wire(forwarding.ask(query(), 1)).edns == -1


def test_only_the_answer_to_the_question_counts() -> None:
    asked = query()
    wire = forwarding.ask(asked, 4711)
    good = answer_to(wire, "x").to_wire()
    assert forwarding.is_answer(good, asked, 4711)
    assert forwarding.is_answer(good.replace(b"corp", b"CORP"), asked, 4711)
    assert not forwarding.is_answer(good, asked, 4712)
    assert not forwarding.is_answer(wire, asked, 4711)  # our own question come back
    for other in (query("www.corp.example", "AAAA"), query("w.corp.example"), query(rdclass="CH")):
        assert not forwarding.is_answer(good, other, 4711)


def test_a_long_answer_is_cut_for_udp_only() -> None:
    asked = query(kind="TXT")
    long = answer_to(forwarding.ask(asked, 1), *("x" * 250 for _ in range(1)), "y" * 250, "z" * 200).to_wire()
    assert len(long) > 512
    cut = dns.message.from_wire(forwarding.reply(asked, long, over_udp=True))
    assert cut.flags & dns.flags.TC
    assert cut.answer == []
    assert forwarding.reply(asked, long, over_udp=False) == asked.ident + long[2:]
    roomy = query(kind="TXT", use_edns=0, payload=1232)
    assert forwarding.reply(roomy, long, over_udp=True) == roomy.ident + long[2:]


def test_our_own_failures_repeat_the_question() -> None:
    asked = query()
    told = dns.message.from_wire(forwarding.failure(asked, dns.rcode.SERVFAIL))
    assert told.id.to_bytes(2, "big") == asked.ident
    assert told.rcode() == dns.rcode.SERVFAIL
    assert told.question[0].name == dns.name.from_text("www.corp.example")
    assert told.flags & dns.flags.QR
