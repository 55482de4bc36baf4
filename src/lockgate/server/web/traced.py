"""The span of one HTTP request: method, template of the route, status. Never address, query, headers or body.

A `traceparent` that comes in is a stranger's: our traces begin here. The exception are the two routes that other
gateways call, and there only who has shown a token that may use them: the trace of the gateway that pushes or
exchanges records goes on in ours.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Scope

from lockgate.server import tracing

FROM_GATEWAYS = frozenset({"/api/v1/config/import", "/api/v1/user-records/changes"})

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADER = "traceparent"


def traced(request: Request, listener: str) -> tracing.Span:
    """The span of a request that comes in; nothing where `go_on` makes one."""
    if _goes_on(request):
        return tracing.NOTHING
    return tracing.operation(_method(request.scope), _about(request.scope, listener), kind="server")


async def go_on(
    request: Request, handler: Callable[[Request], Coroutine[Any, Any, Response]], inner: Request
) -> Response:
    """The answer of `handler` to `inner`, in the trace of the gateway that asks. Only behind the guard."""
    if not _goes_on(request):
        return await handler(inner)
    parent = request.headers[_HEADER]
    about = _about(request.scope, "admin")
    with tracing.operation(_name(request.scope), about, kind="server", parent=parent) as trace:
        answer = await handler(inner)
        finish(trace, request.scope, answer.status_code)
        return answer


def finish(trace: tracing.Span, scope: Scope, status: int) -> None:
    """What is known when the answer begins."""
    if not trace.is_recorded:
        return
    trace.note({"http.response.status_code": status})
    if status >= 500:
        trace.fail(str(status))
    route = _route(scope)
    if route:
        trace.note({"http.route": route})
        trace.rename(_name(scope))


def _goes_on(request: Request) -> bool:
    headers = request.headers
    return (
        request.scope["path"] in FROM_GATEWAYS
        and len(headers.getlist(_HEADER)) == 1
        and "authorization" in headers
    )


def _about(scope: Scope, listener: str) -> tracing.Attributes:
    return {
        "http.request.method": _method(scope),
        "url.scheme": "https",
        "lockgate.listener": listener or "none",
        "lockgate.request": scope["lockgate.request"],
    }


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "_OTHER"


def _name(scope: Scope) -> str:
    return f"{_method(scope)} {_route(scope)}".rstrip()


def _route(scope: Scope) -> str:
    """Its template; "" where no route was found."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    if not isinstance(path, str) or isinstance(route, Mount):
        return ""
    return str(scope.get("root_path", "")) + path
