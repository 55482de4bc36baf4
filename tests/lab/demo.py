"""`make demo`: a stranger's first look. A gateway, an intranet behind it and a real client in front of it, in
network namespaces: signs in, shows what the client was given, and moves data through ESP and through TLS.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import intranet
from tests.lab.gateway import PASSWORD, Gateway
from tests.lab.openconnect import OpenConnect
from tests.lab.topology import (
    CLIENT4,
    GATEWAY4,
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


def _show_connection(client: OpenConnect, gateway: Gateway) -> None:
    told = client.configuration()
    lists = {"IPv4": "CISCO_SPLIT_INC", "IPv6": "CISCO_IPV6_SPLIT_INC"}
    networks = [
        f"{told[f'{name}_{n}_ADDR']}/{told[f'{name}_{n}_MASKLEN']}"
        for name in lists.values()
        for n in range(int(told.get(name, "0")))
    ]
    session = wait_for(
        lambda: session if (session := gateway.session_of(USER))["transport"] == "esp" else None,
        "the gateway sends over ESP",
    )
    facts = {
        "user": USER,
        "gateway": f"{GATEWAY_NAME} ({GATEWAY4}), client at {CLIENT4}",
        "inner addresses": "  ".join(client.addresses()),
        "networks": "  ".join(networks) or "everything",
        "DNS": told.get("INTERNAL_IP4_DNS", "none"),
        "MTU": told.get("INTERNAL_IP4_MTU", "?"),
        "transport": str(session.get("transport", "?")).upper(),
    }
    print()
    for name, value in facts.items():
        print(f"      {name:<16} {value}")
    print()


def _carry(lab: Lab, gateway: Gateway, label: str, options: list[str]) -> Transfer:
    """Sign in, fetch the page and the large file through one transport, log out."""
    with _step(f"Signing in as {USER} with openconnect, for {label}"):
        client = OpenConnect(lab.client, user=USER, password=PASSWORD, trust=gateway.trust, options=options)
        client.wait_configured()
        if label == "ESP":
            client.wait_esp()
    with _step(f"Intranet page over IPv4 and IPv6 through {label}"):
        for address in (INTRANET4, f"[{INTRANET6}]"):
            page = lab.client.run(["curl", "-sS", "--fail", "--max-time", "20", f"http://{address}/"]).stdout
            if page != intranet.PAGE:
                raise LabError(f"the intranet page at {address} came out as {page!r}")
    if label == "ESP":
        _show_connection(client, gateway)
    with _step(f"{SIZE // 10**6} MB from {INTRANET_NAME} through {label}, content checked"):
        transfer = download(lab.client, lab.intranet, INTRANET4, SIZE)
    if client.transport() != label:
        raise LabError(
            f"packets went through {client.transport()}, not through {label}\n{client.program.tail()}"
        )
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
    rates = {"ESP": _carry(lab, gateway, "ESP", []), "TLS": _carry(lab, gateway, "TLS", ["--no-dtls"])}
    with _step("Stopping the gateway"):
        gateway.stop()
    print()
    for label, transfer in rates.items():
        print(f"      {label}   {transfer}")
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
