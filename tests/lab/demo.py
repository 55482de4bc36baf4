"""`make demo`: a stranger's first look. A gateway, an intranet behind it and clients in front of it, in network
namespaces. Our own client signs in, moves data through ESP and through TLS, loses UDP, changes networks and
loses its packet process, always with the same session; then openconnect shows that it may be another client.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import intranet
from tests.lab.gateway import PASSWORD, Gateway
from tests.lab.openconnect import OpenConnect
from tests.lab.own_client import OwnClient
from tests.lab.topology import (
    CLIENT4,
    GATEWAY_NAME,
    INTRANET4,
    INTRANET6,
    INTRANET_NAME,
    Lab,
)
from tests.lab.transfer import Transfer, download
from tests.lab.waiting import LabError, wait_for

USER = "alice"
SIZE = 200_000_000
"""Bytes of the large file: some seconds through either tunnel on two cores."""

WHAT_NEXT = f"""\
To run the gateway for real: as root, on a machine that clients reach (TCP 443, UDP 4500):

    .venv/bin/lockgate server init --dir /var/lib/lockgate --hostname vpn.example.org --split-include 10.0.0.0/8
    .venv/bin/lockgate user add --dir /var/lib/lockgate {USER}
    .venv/bin/lockgate server run --dir /var/lib/lockgate

To sign in: as root, on a client, with the gateway's /var/lib/lockgate/ca.pem copied there:

    .venv/bin/lockgate client run &
    .venv/bin/lockgate connect https://vpn.example.org/ --user {USER} --ca ca.pem

or with another client:

    openconnect --protocol=pulse --user {USER} --cafile ca.pem https://vpn.example.org/
"""


@contextmanager
def _step(text: str) -> Iterator[None]:
    print(f"  {text:<66}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"ok  {time.monotonic() - start:5.1f} s", flush=True)


def _show_details(client: OwnClient) -> None:
    told = client.details()
    facts = {
        "user": told["user"],
        "gateway": f"{GATEWAY_NAME} ({told['peer']}), client at {CLIENT4}",
        "inner addresses": f"{told['ipv4']}  {told['ipv6']} on {told['interface']}",
        "networks": "  ".join(told["split_include"]) or "everything",
        "DNS": "  ".join(told["dns"]),
        "transport": f"{told['transport'].upper()}, {told['esp_suite']}, MTU {told['mtu']}",
        "TLS": f"{told['tls']['version']}, {told['tls']['group']}",
    }
    print()
    for name, value in facts.items():
        print(f"      {name:<16} {value}")
    print()


def _fetch_page(lab: Lab) -> None:
    for address in (INTRANET4, f"[{INTRANET6}]"):
        page = lab.client.run(["curl", "-sS", "--fail", "--max-time", "20", f"http://{address}/"]).stdout
        if page != intranet.PAGE:
            raise LabError(f"the intranet page at {address} came out as {page!r}")


def _own_client(lab: Lab, gateway: Gateway) -> dict[str, Transfer]:
    """The main job, and what may happen to it."""
    rates = {}
    with _step("Starting the client service"):
        client = OwnClient(lab.client).start()
    with _step(f"Signing in as {USER} with lockgate connect"):
        client.connect(user=USER, ca=gateway.ca_file)
        client.wait_state("connected", transport="esp")
    with _step("Intranet page over IPv4 and IPv6"):
        _fetch_page(lab)
    _show_details(client)
    with _step(f"{SIZE // 10**6} MB from {INTRANET_NAME} through ESP, content checked"):
        rates["lockgate, ESP"] = download(lab.client, lab.intranet, INTRANET4, SIZE)
    before = client.live()
    with _step("A network without UDP: traffic goes on over TLS"):
        lab.impair.block_udp()
        client.wait_state("connected", transport="tls")
        _fetch_page(lab)
    with _step(f"{SIZE // 10**6} MB through TLS, content checked"):
        rates["lockgate, TLS"] = download(lab.client, lab.intranet, INTRANET4, SIZE)
    with _step("UDP is back: so is ESP"):
        lab.impair.unblock_udp()
        client.wait_state("connected", transport="esp", deadline=60)
    with _step("Another network and address: same session, no question"):
        lab.impair.roam()
        wait_for(lambda: client.live()["reconnects"], "the client comes back", deadline=30)
        client.wait_state("connected", transport="esp")
        _fetch_page(lab)
    with _step("The packet process is killed: same session, no question"):
        client.wait_edge(client.kill_edge())
        client.wait_state("connected", transport="esp")
        _fetch_page(lab)
    after = client.live()
    if (before["ipv4"], before["ipv6"]) != (after["ipv4"], after["ipv6"]):
        raise LabError("the client came back with other inner addresses")
    with _step("Disconnecting; the gateway forgets the session"):
        client.disconnect()
        gateway.wait_no_sessions()
        client.command("client", "stop")
        client.stop()
    lab.impair.heal()
    return rates


def _openconnect(lab: Lab, gateway: Gateway) -> Transfer:
    """The same gateway with a client that is not ours."""
    with _step(f"Signing in as {USER} with openconnect"):
        client = OpenConnect(lab.client, user=USER, password=PASSWORD, trust=gateway.trust)
        client.wait_configured().wait_esp()
        _fetch_page(lab)
    with _step(f"{SIZE // 10**6} MB through ESP, content checked"):
        transfer = download(lab.client, lab.intranet, INTRANET4, SIZE)
    with _step("Logging out; the gateway forgets the session"):
        client.log_out()
        gateway.wait_no_sessions()
    return transfer


def _demonstrate(lab: Lab) -> None:
    with _step("Starting the intranet web server"):
        intranet.serve(lab.intranet, SIZE)
    with _step("Making and starting the gateway"):
        gateway = Gateway(lab.gateway).initialise()
        gateway.add_user(USER)
        gateway.start()
    rates = _own_client(lab, gateway)
    rates["openconnect, ESP"] = _openconnect(lab, gateway)
    with _step("Stopping the gateway"):
        gateway.stop()
    print()
    for label, transfer in rates.items():
        print(f"      {label:<18} {transfer}")
    print(f"\n{WHAT_NEXT}", end="", flush=True)


def main() -> int:
    print("Lockgate demo: client - internet - gateway - intranet, in namespaces of this machine\n")
    lab: Lab | None = None
    try:
        with _step("Building the network"):
            lab = Lab()
        _demonstrate(lab)
    except LabError as error:
        print(f"\nThe demo failed: {error}\n", file=sys.stderr)
        if lab is not None:
            print(lab.tails(), file=sys.stderr)
        print(
            "\nWhat to do: the programs' own words above usually name the cause. `make clean demo` starts from\n"
            "nothing; if it still fails, report it with this output.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    finally:
        if lab is not None:
            lab.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
