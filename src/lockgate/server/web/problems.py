"""One shape of errors: problem documents (RFC 9457) with the four fields of `Problem`.

{"type": "urn:lockgate:problem:CODE", "title": summary, "status": 404,
 "code": …, "summary": …, "fix": …, "details": […], "request_id": …}
"""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.web.body import TooLarge
from lockgate.server.web.principal import NotAllowedError

MEDIA_TYPE = "application/problem+json"

# Codes whose status their name does not tell; see `status_of`.
_STATUS = {
    "bad-request": 400,
    "body-too-large": 413,
    "config-invalid": 422,
    "conflict": 409,
    "draft-changed": 409,
    "edge-missing": 503,
    "internal-error": 500,
    "last-administrator": 409,
    "media-type": 415,
    "not-allowed": 403,
    "not-found": 404,
    "not-here": 400,
    "not-signed-in": 401,
    "not-extendable": 409,
    "nothing-changed": 409,
    "server-not-running": 503,
    "server-silent": 503,
    "too-many-attempts": 429,
    "too-many-drafts": 409,
    "too-many-tokens": 409,
    "push-failed": 502,
    "busy": 503,
    "method-not-allowed": 405,
}
_BY_BEGINNING = {"no-such-": 404, "no-": 404, "unknown-": 404, "store-": 503}
_BY_END = {"-exists": 409, "-taken": 409, "-too-large": 413, "-changed": 409, "-in-use": 409}

NOT_FOUND = Problem("not-found", "There is nothing at this address.", "Check the address.")
METHOD = Problem(
    "method-not-allowed", "This address does not answer to this method.", "See /api/v1/openapi.json."
)
INTERNAL = Problem("internal-error", "The server made a mistake.", "Its log has more under the request id.")
TOO_LARGE = Problem("body-too-large", "The body of the request is too large.", "Send less at a time.")
UNFIT = Problem("bad-request", "The request is not what this address takes.", "See /api/v1/openapi.json.")


def status_of(code: str) -> int:
    """The HTTP status of a problem; 400 for one about the request that no rule knows."""
    if code in _STATUS:
        return _STATUS[code]
    for beginning, status in _BY_BEGINNING.items():
        if code.startswith(beginning):
            return status
    for end, status in _BY_END.items():
        if code.endswith(end):
            return status
    return 400


def request_id(request: HTTPConnection) -> str:
    """What the log calls this request."""
    return str(request.scope.get("lockgate.request", ""))


def document(problem: Problem, status: int, request: str = "", **more: Any) -> dict[str, Any]:
    """The JSON of a problem. more: fields beyond those of every problem."""
    return {
        "type": f"urn:lockgate:problem:{problem.code}",
        "title": problem.summary,
        "status": status,
        **problem.as_dict(),
        **more,
        "request_id": request,
    }


def problem_response(
    request: HTTPConnection, problem: Problem, status: int | None = None, **more: Any
) -> Response:
    """The answer that tells a problem."""
    status = status or status_of(problem.code)
    response = Response(
        json.dumps(document(problem, status, request_id(request), **more)),
        status_code=status,
        media_type=MEDIA_TYPE,
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="lockgate"'
    return response


def error_response(request: HTTPConnection, error: ProblemError) -> Response:
    """The same for what a service raised; findings about a configuration come with their paths."""
    more = {}
    findings = getattr(error, "findings", None)
    if findings is not None:
        more["findings"] = [finding.as_dict() for finding in findings]
    conflicts = getattr(error, "conflicts", None)
    if conflicts is not None:
        more["conflicts"] = [conflict.as_dict() for conflict in conflicts]
    status = error.status if isinstance(error, NotAllowedError) else None
    return problem_response(request, error.problem, status, **more)


# -- what applications do about exceptions (`exception_handlers`) --------------------------------------


async def on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error_response(request, error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refused, in our shape."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ProblemError):
        return error_response(request, error.__cause__)  # what reading a body as JSON has found
    if isinstance(error, TooLarge):
        return problem_response(request, TOO_LARGE)
    if error.status_code == 404:
        return problem_response(request, NOT_FOUND)
    if error.status_code == 405:
        response = problem_response(request, METHOD)
        if error.headers and "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    return problem_response(request, UNFIT, error.status_code)


async def on_exception(request: Request, _: Exception) -> Response:
    return problem_response(request, INTERNAL)
