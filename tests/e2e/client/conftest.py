"""Our own client in the lab: a service with directories of its own for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab import Gateway, Lab
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY_NAME


def url(gateway: Gateway, host: str = GATEWAY_NAME) -> str:
    """What a user types to reach the gateway."""
    return f"https://{f'[{host}]' if ':' in host else host}:{gateway.port}/"


@pytest.fixture
def client(lab: Lab) -> Iterator[OwnClient]:
    """A running client service on the client host; nothing of it is left afterwards."""
    client = OwnClient(lab.client).start()
    yield client
    lab.impair.heal()
    if client.service is not None and client.service.running:
        client.command("client", "stop", check=False)
    client.stop()
    client.reset()


Connected = Callable[..., OwnClient]


@pytest.fixture
def connected(client: OwnClient, new_user: Callable[[Gateway], str]) -> Connected:
    """`connected(gateway)`: the client with a tunnel over ESP (`transport="tls"` to ask for less)."""

    def make(
        gateway: Gateway, *, host: str = GATEWAY_NAME, transport: str | None = "esp", **options: object
    ) -> OwnClient:
        user = new_user(gateway)
        client.connect(url(gateway, host), user, ca=gateway.ca_file, **options)  # type: ignore[arg-type]
        client.wait_state("connected", transport=transport)
        client.user = user  # type: ignore[attr-defined]
        return client

    return make


def user_of(client: OwnClient) -> str:
    """Who signed in last."""
    return str(client.user)  # type: ignore[attr-defined]
