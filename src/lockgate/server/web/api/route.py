"""What every REST route has: its rights, judged before the body is read, and bounded JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.bounds import read_json
from lockgate.server.web.access import Access
from lockgate.server.web.body import JSON_LIMIT, allow_body
from lockgate.server.web.principal import ADMINISTRATOR, Needs, Principal
from lockgate.server.web.services import Services
from lockgate.server.web.traced import go_on

_F = TypeVar("_F", bound=Callable[..., Any])

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def rights(asked: Needs) -> Any:
    """The dependency that a route declares: `dependencies=[rights(needs("system"))]`."""
    return Depends(_Rights(asked))


class _Rights:
    def __init__(self, asked: Needs) -> None:
        self.needs = asked

    async def __call__(self, request: Request) -> None:
        """Once more, of the principal that the guard has found; a route that lost its guard says no."""
        principal = request.state.principal
        assert isinstance(principal, Principal)
        self.needs.judge(principal)


def takes(limit: int) -> Callable[[_F], _F]:
    """Marks a handler whose body may be larger than JSON_LIMIT, in bytes."""

    def mark(handler: _F) -> _F:
        handler.body_limit = limit  # type: ignore[attr-defined]
        return handler

    return mark


class ApiRequest(Request):
    """A request whose JSON is bounded."""

    async def json(self) -> Any:
        return read_json(await self.body(), "body")


class ApiRoute(APIRoute):
    """A route with a guard; without `rights` it is for those who may write administrators."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        found = [each.dependency for each in options.get("dependencies") or ()]
        asked = [each.needs for each in found if isinstance(each, _Rights)]
        self.needs: Needs = asked[0] if asked else ADMINISTRATOR
        options["openapi_extra"] = {
            **(options.get("openapi_extra") or {}),
            "x-lockgate-needs": self.needs.text(),
        }
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        limit: int = getattr(self.endpoint, "body_limit", JSON_LIMIT)

        async def guarded(request: Request) -> Response:
            allow_body(request, limit if request.method in WITH_BODY else 0)
            access: Access = request.app.state.access
            await access.admit(request, self.needs)
            _check_media_type(request)
            return await go_on(request, handler, ApiRequest(request.scope, request.receive))

        return guarded


def _check_media_type(request: Request) -> None:
    """A form that a strange page sends is no JSON, whatever the session."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in WITH_BODY and kind not in ("application/json", ""):
        raise ProblemError(
            Problem("media-type", "The body is not declared as JSON.", "Send it as application/json.")
        )


def make_router(tag: str) -> APIRouter:
    """The routes of one subject."""
    return APIRouter(tags=[tag], route_class=ApiRoute)


async def _principal(request: Request) -> Principal:
    found = request.state.principal
    assert isinstance(found, Principal)
    return found


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Who = Annotated[Principal, Depends(_principal)]
"""Parameter of a handler: who asks."""
Of = Annotated[Services, Depends(_services)]
"""Parameter of a handler: the services."""
