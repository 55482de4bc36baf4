"""The lab, gateways and clients for the scenarios. One lab and one main gateway serve the whole run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.lab import Gateway, Host, Lab, OpenConnect, intranet
from tests.lab.gateway import PASSWORD
from tests.lab.place import LAB_DIR
from tests.lab.topology import GATEWAY4

Connect = Callable[..., OpenConnect]

_user_numbers = itertools.count(1)
_places = itertools.count(1)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if not os.environ.get(LAB_DIR):
        pytest.fail(
            "these tests run inside the lab: make test, or python -m tests.lab.enter -- pytest …",
            pytrace=False,
        )
    with Lab() as lab:
        intranet.serve(lab.intranet, 20_000_000)
        yield lab


@pytest.fixture(autouse=True)
def _clean_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test finds a healthy network and no client left over by another."""
    yield
    if "lab" in request.fixturenames:
        lab: Lab = request.getfixturevalue("lab")
        lab.impair.heal()
        for host in lab.hosts.values():
            host.forget_ended()


@pytest.fixture(scope="session")
def gateway(lab: Lab) -> Iterator[Gateway]:
    """The main gateway, with the settings `server init` gives; tests use it with users of their own."""
    gateway = Gateway(lab.gateway).initialise()
    # Tests knock more often than a client may.
    gateway.set_config("limits", "new_connections_per_second", "10000")
    gateway.set_config("limits", "new_connections_burst", "10000")
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def another_gateway(lab: Lab) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways with settings of their own beside the main one: `another_gateway({"esp": {"port": "1"}})`.

    The values are TOML. `extra` is TOML text for the end of the file, other keywords go to `server init`.
    """
    made: list[Gateway] = []

    def make(
        settings: dict[str, dict[str, str]] | None = None, *, extra: str = "", **options: Sequence[str]
    ) -> Gateway:
        place = next(_places)
        gateway = Gateway(lab.gateway, f"gateway{place}", place=place).initialise(**options)
        for table, values in (settings or {}).items():
            for key, value in values.items():
                gateway.set_config(table, key, value)
        if extra:
            gateway.append_config(extra)
        made.append(gateway)
        return gateway.start()

    yield make
    for gateway in made:
        gateway.stop()


@pytest.fixture
def new_user() -> Callable[[Gateway], str]:
    """A user nobody else has, with the password `PASSWORD`."""

    def make(gateway: Gateway) -> str:
        name = f"user{next(_user_numbers)}"
        gateway.add_user(name)
        return name

    return make


@pytest.fixture
def connect(lab: Lab, new_user: Callable[[Gateway], str]) -> Iterator[Connect]:
    """Starts openconnect; `connect(gateway)` for a new user on the client host. Ends it after the test."""
    running: list[tuple[Gateway, OpenConnect]] = []

    def start(
        gateway: Gateway,
        *,
        user: str | None = None,
        password: str = PASSWORD,
        host: Host | None = None,
        address: str = GATEWAY4,
        trust: Sequence[str] | None = None,
        **more: object,
    ) -> OpenConnect:
        client = OpenConnect(
            host or lab.client,
            user=user or new_user(gateway),
            password=password,
            trust=gateway.trust if trust is None else trust,
            address=address,
            port=gateway.port,
            **more,  # type: ignore[arg-type]
        )
        running.append((gateway, client))
        return client

    yield start
    for gateway, client in reversed(running):
        client.log_out()
        if gateway.sessions_of(client.user):
            gateway.disconnect(client.user)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """A failed scenario shows what the programs said."""
    report = yield
    if report.when == "call" and report.failed and "lab" in getattr(item, "fixturenames", ()):
        lab = item.funcargs.get("lab")  # type: ignore[attr-defined]
        if isinstance(lab, Lab):
            report.sections.append(("programs in the lab", lab.tails()))
    return report
