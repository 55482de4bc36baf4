"""What monitoring asks the administrators' listener: /healthz, /readyz, /metrics.

Health says that this process works; readiness that somebody who connects now gets in: the edge is there and
the store answers. Neither tells a stranger more than yes or no.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from lockgate.model.problem import ProblemError
from lockgate.server.web.access import Access, GuardedRoute
from lockgate.server.web.peer import Peer
from lockgate.server.web.principal import PUBLIC, needs
from lockgate.server.web.services import Services

log = structlog.get_logger("monitoring")

HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"
STORE_PATIENCE = 2.0  # seconds within which the database has to answer


def monitoring_routes(services: Services) -> list[BaseRoute]:
    """Three routes; the first two are public."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "up"})

    async def ready(_: Request) -> Response:
        store = await store_answers(services)
        edge = services.gateway is not None and services.gateway.edge_is_up
        parts = {"edge": "up" if edge else "down", "store": "up" if store else "down"}
        return JSONResponse(parts, status_code=200 if edge and store else 503)

    async def metrics(request: Request) -> Response:
        from lockgate.server.metrics import CONTENT_TYPE, exposition

        peer = Peer.of(request)
        if not _listed(services, peer.address):
            # Everybody else needs the right to read the status.
            access: Access = request.app.state.access
            principal = await access.administrator(request)
            needs("system").judge(principal)
        return Response(await exposition(services), media_type=CONTENT_TYPE)

    return [
        GuardedRoute(HEALTH, health, needs=PUBLIC, body=0),
        GuardedRoute(READY, ready, needs=PUBLIC, body=0),
        GuardedRoute(METRICS, metrics, needs=PUBLIC, body=0),
    ]


async def store_answers(services: Services) -> bool:
    """Whether the database does, soon enough."""
    try:
        async with asyncio.timeout(STORE_PATIENCE):
            await services.store.ping()
    except (ProblemError, TimeoutError, OSError):
        return False
    except Exception:
        log.exception("store-failed")
        return False
    return True


def _listed(services: Services, address: str) -> bool:
    """Whether the configuration names that address as one that may read the metrics."""
    try:
        source = ip_address(address)
    except ValueError:
        return False
    return any(source in network for network in services.in_force.tree.metrics.sources)
