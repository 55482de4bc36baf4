from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.client_dns.machines import MACHINES, Machine, Network, check_unpacked
from tests.lab.place import lab_directory

_count = itertools.count(1)


@pytest.fixture
def network() -> Iterator[Network]:
    check_unpacked()
    network = Network(lab_directory() / f"client-dns{next(_count)}")
    yield network
    network.close()


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest, network: Network) -> Machine:
    return MACHINES[request.param](network)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report = yield
    network = getattr(item, "funcargs", {}).get("network")
    if report.failed and isinstance(network, Network) and call.when == "call":
        report.sections.append(("programs", network.tails()))
    return report
