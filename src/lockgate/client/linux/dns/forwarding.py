"""The split forwarder's decisions: bytes in, bytes and destinations out.

A name under a corporate domain goes to the tunnel's servers and never elsewhere; every other name goes to the
servers the machine had before. Upstream goes a message of our own making, with nothing but the question and
the flags and EDNS switches of the client's: no other record of the client's message can carry a name along.
Nothing is cached: the servers on both sides do that, and an answer from one side must not outlive it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from lockgate.client.linux.dns.wish import Address, within

ADDRESS = ip_address("127.0.0.84")
"""Of the loopback network, beside the 127.0.0.1 and 127.0.0.53 of other resolvers. 84 is 'T' for tunnel."""

MAX_QUERY = 4096
"""Bytes. A question with every option in use has some hundred."""
MAX_UDP_ANSWER = 1232
"""What we ask servers to send at most over UDP: fits IPv6's least MTU. Source: the DNS flag day of 2020."""
_CLASSIC_UDP = 512  # RFC 1035, section 2.3.4
_HEADER = 12
_PASSED_FLAGS = dns.flags.RD | dns.flags.CD | dns.flags.AD


class Way(Enum):
    """Who may be asked for a name."""

    INSIDE = "inside"  # the tunnel's servers
    OUTSIDE = "outside"  # the ones the machine had before
    NOWHERE = "nowhere"  # nobody: it does not exist


@dataclass(frozen=True, slots=True)
class Routes:
    """inside: servers reached through the device `interface` only. outside: by whatever way the machine has.

    domains: whose names are asked inside; the empty tuple means all names.
    outer_search: search domains that the machine had before, for `way`.
    """

    inside: tuple[Address, ...]
    interface: str
    domains: tuple[str, ...] = ()
    outside: tuple[Address, ...] = ()
    outer_search: tuple[str, ...] = ()

    def servers(self, way: Way) -> tuple[Address, ...]:
        if way is Way.OUTSIDE:
            return tuple(server for server in self.outside if server != ADDRESS)
        return self.inside if way is Way.INSIDE else ()

    def way(self, name: str) -> Way:
        """name: lower case, without a last dot.

        A stub resolver that was told a corporate name does not exist tries it under the next search domain;
        `www.corp.example.lan` would tell the outside what was meant, so it does not exist either.
        """
        if not self.domains or self._corporate(name):
            return Way.INSIDE
        for suffix in self.outer_search:
            if within(name, suffix) and self._corporate(name.removesuffix(suffix).strip(".")):
                return Way.NOWHERE
        return Way.OUTSIDE

    def _corporate(self, name: str) -> bool:
        return any(within(name, domain) for domain in self.domains)


@dataclass(frozen=True, slots=True)
class Query:
    """One question of a client. payload: bytes it takes over UDP; edns, dnssec_ok: as it said."""

    ident: bytes
    flags: int
    name: dns.name.Name
    kind: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass
    edns: bool
    dnssec_ok: bool
    payload: int

    @property
    def text(self) -> str:
        return self.name.to_text(omit_final_dot=True).lower()


def read_query(wire: bytes) -> Query | bytes | None:
    """The question; or the error reply it deserves; or None where no answer is due. Total for every input."""
    if not _HEADER <= len(wire) <= MAX_QUERY or wire[2] & 0x80:  # an answer is never answered
        return None
    try:
        message = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return _bare_reply(wire, dns.rcode.FORMERR)
    if message.opcode() != dns.opcode.QUERY:
        return _bare_reply(wire, dns.rcode.NOTIMP)
    if len(message.question) != 1:
        return _bare_reply(wire, dns.rcode.FORMERR)
    question = message.question[0]
    if question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):  # many messages long
        return _bare_reply(wire, dns.rcode.NOTIMP)
    return Query(
        ident=wire[:2],
        flags=message.flags & _PASSED_FLAGS,
        name=question.name,
        kind=question.rdtype,
        rdclass=question.rdclass,
        edns=message.edns >= 0,
        dnssec_ok=bool(message.ednsflags & dns.flags.DO),
        payload=max(_CLASSIC_UDP, message.payload if message.edns >= 0 else 0),
    )


def ask(query: Query, ident: int) -> bytes:
    """The message for a server. ident: 0 .. 65535, unpredictable."""
    message = _message(query, ident, query.flags)
    if query.edns:
        message.use_edns(
            0,
            dns.flags.DO if query.dnssec_ok else 0,
            payload=min(query.payload, MAX_UDP_ANSWER),
        )
    return message.to_wire()


def is_answer(wire: bytes, query: Query, ident: int) -> bool:
    """Whether this is the answer to `ask(query, ident)`: a reply with the same number and question."""
    if len(wire) < _HEADER or wire[:2] != ident.to_bytes(2, "big") or not wire[2] & 0x80:
        return False
    try:
        question = dns.message.from_wire(wire, question_only=True).question
    except dns.exception.DNSException:
        return False
    return [(q.name, q.rdtype, q.rdclass) for q in question] == [(query.name, query.kind, query.rdclass)]


def rcode(wire: bytes) -> int:
    """The basic response code of an answer."""
    return wire[3] & 0x0F


def reply(query: Query, answer: bytes, *, over_udp: bool) -> bytes:
    """A server's answer as the client gets it: its own number, and cut where it takes no more over UDP."""
    if over_udp and len(answer) > query.payload:
        message = _message(query, 0, query.flags | dns.flags.QR | dns.flags.RA | dns.flags.TC)
        answer = message.to_wire()
    return query.ident + answer[2:]


def failure(query: Query, code: dns.rcode.Rcode) -> bytes:
    """Our own reply without an answer."""
    message = _message(query, 0, query.flags & ~dns.flags.AD | dns.flags.QR | dns.flags.RA)
    message.set_rcode(code)
    return query.ident + message.to_wire()[2:]


def _message(query: Query, ident: int, flags: int) -> dns.message.Message:
    message = dns.message.Message(id=ident)
    message.flags = dns.flags.Flag(flags)
    message.find_rrset(
        message.question, query.name, query.rdclass, query.kind, create=True, force_unique=True
    )
    return message


def _bare_reply(wire: bytes, code: dns.rcode.Rcode) -> bytes:
    """A header alone: number, opcode and RD of the question, and the code."""
    return wire[:2] + bytes([0x80 | wire[2] & 0x79, int(code)]) + bytes(8)
