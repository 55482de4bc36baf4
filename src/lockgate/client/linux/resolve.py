"""The addresses of a gateway's name, asked for once per connection.

**The rule.** A literal address is itself. A name is looked up for IPv4 and IPv6 at once, with everything that
this machine looks names up with (/etc/hosts, DNS, others in nsswitch.conf). The order is that of
`getaddrinfo` (RFC 6724: an address that this machine has a matching way to comes first; /etc/gai.conf
counts). `sockets.connect_tcp` alternates between the versions beginning with the first, so a name with both
is tried with both, and names of their own for IPv4 and IPv6 are simply names with one. Link-local, multicast
and unspecified addresses are no gateways and are left out.

**Pinned.** The answer belongs to the connection: reconnecting uses it again, the address that worked last in
front (`prefer`), and does not ask. While all traffic is tunnelled there is nobody outside to ask, and an
answer from inside is not to be trusted with where the outside of the tunnel goes.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from lockgate.client.segments import Address
from lockgate.model.problem import Problem, ProblemError

PATIENCE = 10.0  # seconds; the C library gives up on two silent servers after 20
MAX_LOOKUPS = 8
"""At once. A lookup cannot be interrupted, so an abandoned one counts until the library gives up on it."""
_MAX_NAME = 253  # RFC 1035, section 2.3.4

_running = threading.Semaphore(MAX_LOOKUPS)


async def resolve(
    host: str,
    *,
    timeout: float = PATIENCE,  # noqa: ASYNC109  # its failure has words of its own
) -> tuple[Address, ...]:
    """Addresses of a name or of a literal (IPv6 without brackets), at least one, best first, each once.

    timeout: seconds.
    raises:  ProblemError name-unknown, name-timeout.
    """
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    if not 0 < len(host) <= _MAX_NAME:
        raise ProblemError(_unknown(host[:_MAX_NAME], "no host has such a name"))
    if not _running.acquire(blocking=False):
        raise ProblemError(_timeout(host))
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def deliver(act: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(lambda: None if answer.done() else act())
        except RuntimeError:
            return  # the loop has ended meanwhile, and with it whoever asked

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            failure = error
            deliver(lambda: answer.set_exception(failure))
        else:
            deliver(lambda: answer.set_result([str(entry[4][0]) for entry in found]))
        finally:
            _running.release()

    # A thread of its own: the loop's pool waits for its threads when the program ends, these may hang.
    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            texts = await answer
    except TimeoutError:
        raise ProblemError(_timeout(host)) from None
    except (OSError, UnicodeError) as error:
        raise ProblemError(_unknown(host, getattr(error, "strerror", None) or str(error))) from None
    addresses = _usable(texts)
    if not addresses:
        raise ProblemError(_unknown(host, "it has no address that a gateway could have"))
    return addresses


def prefer(addresses: Iterable[Address], worked: Address) -> tuple[Address, ...]:
    """The same addresses with the one that worked in front."""
    return tuple(dict.fromkeys((worked, *addresses)))


def _usable(texts: Iterable[str]) -> tuple[Address, ...]:
    found: dict[Address, None] = {}
    for text in texts:
        address = ip_address(text)
        if not (address.is_link_local or address.is_multicast or address.is_unspecified):
            found[address] = None
    return tuple(found)


def _unknown(host: str, why: str) -> Problem:
    return Problem(
        "name-unknown",
        f"The name {host} has no address: {why}.",
        "Check the spelling, and that this machine's network works.",
    )


def _timeout(host: str) -> Problem:
    return Problem(
        "name-timeout",
        f"Nobody answers which address {host} has.",
        "Check this machine's network and its name servers.",
    )
