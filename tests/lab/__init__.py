"""The lab: a small internet on one machine, made of network namespaces, for the demo, the tests and the benchmarks.

    client(s) ── internet (router: NAT, loss, cuts, delay) ── gateway ── intranet

`enter` moves a command into namespaces of its own, where it is root and nothing it does reaches the machine.
In there, `Lab` (topology) builds the hosts (`Host`), `Gateway`, `OwnClient` and `OpenConnect` run the real programs on them,
`intranet` serves pages, files and echoes, `impair` makes the network bad, and `wait_for` waits for facts.

Every process and namespace of the lab ends with the `enter` that made it, also after kill -9. Nothing here
depends on pytest; nothing is ever written outside the lab's own directory, which is a tmpfs.
"""

from tests.lab.gateway import Gateway
from tests.lab.host import Host
from tests.lab.openconnect import OpenConnect
from tests.lab.own_client import OwnClient
from tests.lab.program import Program
from tests.lab.topology import Lab
from tests.lab.waiting import LabError, wait_for

__all__ = ["Gateway", "Host", "Lab", "LabError", "OpenConnect", "OwnClient", "Program", "wait_for"]
