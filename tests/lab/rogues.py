"""`python -m tests.lab.rogues --listen A:P --cert C --key K NAME…`: rogue gateways, one port each from P on.

One process for many scripts of `rogue_scripts`, where a test goes over all of them. Prints `ready`, then what
happens, each line headed by the script's name. SIGUSR1 closes all connections.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from pathlib import Path

from tests.lab.rogue import Rogue


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.lab.rogues")
    parser.add_argument("--listen", metavar="A:P", required=True)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument(
        "--patient", action="store_true", help="wait for the client before deeds in the tunnel"
    )
    parser.add_argument("names", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    address, _, first = arguments.listen.rpartition(":")
    numbers = {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    with contextlib.ExitStack() as stack:
        rogues = []
        for port, name in enumerate(arguments.names, int(first)):
            where = address.strip("[]"), port
            rogue = Rogue(*where, arguments.cert, arguments.key, name, patient=arguments.patient)
            rogue.show = lambda line, name=name: print(f"{name}: {line}", flush=True)  # type: ignore[misc]
            rogues.append(stack.enter_context(rogue))
        print("ready", flush=True)
        while signal.sigwait(numbers) == signal.SIGUSR1:
            for rogue in rogues:
                rogue.drop_all()


if __name__ == "__main__":
    sys.exit(main())
