"""The forwarder's messages: any question is refused or asked on as nothing but itself; answers never crash."""

from ipaddress import ip_address

import dns.message
import dns.name

from lockgate.client.linux.dns import forwarding
from lockgate.client.linux.dns.forwarding import Query, Routes, Way
from tests.fuzz import harness

ROUTES = Routes((ip_address("10.0.0.1"),), "tun0", ("corp.test",), (ip_address("192.0.2.1"),), ("lan",))
CORPORATE = dns.name.from_text("corp.test")


def one_input(data: bytes) -> None:
    query = forwarding.read_query(data)
    if isinstance(query, bytes):
        assert query[:2] == data[:2]
        assert len(query) <= len(data)
    if not isinstance(query, Query):
        return
    wire = forwarding.ask(query, 1)
    asked = dns.message.from_wire(wire)
    assert len(asked.question) == 1
    assert [asked.answer, asked.authority, asked.additional] == [[], [], []]
    if query.name.is_subdomain(CORPORATE):
        assert ROUTES.way(query.text) is Way.INSIDE
    assert forwarding.is_answer(bytes([*wire[:2], wire[2] | 0x80, *wire[3:]]), query, 1)
    assert len(forwarding.reply(query, data, over_udp=True)) <= query.payload
    forwarding.is_answer(data, query, 1)


if __name__ == "__main__":
    harness.main("dns_forwarding")
