"""A forwarder between TUN and UDP without any protocol around it: the ceiling of a design like ours.

The program is the caller's (`--prototype PATH`). It is started with
`-d DEVICE -l ADDRESS:PORT -r ADDRESS:PORT -m gso -c CIPHER`, says `up` when it forwards, and ends on SIGTERM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.latency import watch
from tests.bench.way import Way
from tests.lab import Host, Lab, LabError, Program
from tests.lab.topology import CLIENT4, GATEWAY4, INTRANET_NET4

_DEVICE = "proto0"
_MTU = 1400
_ENDS = {"client": f"{CLIENT4}:5599", "gateway": f"{GATEWAY4}:5599"}
# One read of the client's TUN then fits one batch of UDP. Not on the gateway: there the kernel would cut
# every packet it forwards.
_READ = 60_000


@contextmanager
def prototype(lab: Lab, binary: Path, cipher: str) -> Iterator[Way]:
    """cipher: "gcm128" or "cbcsha1"."""
    with ExitStack() as undo:
        gateway = _start(lab.gateway, binary, cipher, "gateway", "client", "10.95.0.1")
        undo.callback(gateway.stop)
        with watch(lab.client) as echo:
            client = _start(lab.client, binary, cipher, "client", "gateway", "10.95.0.2")
            undo.callback(client.stop)
            lab.client.ip(f"link set {_DEVICE} gso_max_size {_READ}\nroute add {INTRANET_NET4} dev {_DEVICE}")
            seconds = echo.first_after(echo.begun)

        def check() -> None:
            for program in (gateway, client):
                if not program.running:
                    raise LabError(f"the prototype has ended\n{program.tail()}")

        yield Way(_DEVICE, lambda: [gateway.pid], lambda: [client.pid], check, seconds)


def _start(host: Host, binary: Path, cipher: str, here: str, there: str, address: str) -> Program:
    line = [str(binary), "-d", _DEVICE, "-l", _ENDS[here], "-r", _ENDS[there], "-m", "gso", "-c", cipher]
    program = host.start(line, f"prototype-{here}")
    try:
        program.wait_log("^up")
        host.ip(f"address add {address}/24 dev {_DEVICE}\nlink set {_DEVICE} mtu {_MTU} up")
    except BaseException:
        program.stop()
        raise
    return program
