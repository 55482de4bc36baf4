"""The REST application: routes put together, errors in one shape, the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lockgate import __version__
from lockgate.model.problem import Problem, ProblemError
from lockgate.model.text import printable
from lockgate.server.web.access import Access
from lockgate.server.web.api import (
    certificates,
    configuration,
    drafts,
    installers,
    live,
    logs,
    page_archives,
    policy,
    revisions,
    status,
    tokens,
    transfer,
    uploads,
    user_records,
    users,
)
from lockgate.server.web.api.models import ProblemDocument
from lockgate.server.web.api.route import make_router, rights
from lockgate.server.web.principal import needs_any
from lockgate.server.web.problems import (
    MEDIA_TYPE,
    on_exception,
    on_http_error,
    on_problem,
    problem_response,
)
from lockgate.server.web.services import Services

MAX_DETAILS = 50

SUBJECTS = (
    status,
    configuration,
    drafts,
    revisions,
    transfer,
    live,
    users,
    user_records,
    tokens,
    logs,
    policy,
    uploads,
    certificates,
    installers,
    page_archives,
)


def make_api(services: Services, access: Access) -> FastAPI:
    """The application to mount at /api/v1."""
    api = FastAPI(
        title="Lockgate",
        version=__version__,
        summary="Administration of a gateway.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # It would take over traces of strangers, and note addresses with names in them (`web/traced.py`).
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_error,
            RequestValidationError: _unfit,
            Exception: on_exception,
        },
    )
    api.state.services, api.state.access = services, access
    for subject in SUBJECTS:
        api.router.routes.extend(subject.router.routes)
    about = make_router("status")
    described: dict[str, Any] = {}

    @about.get("/openapi.json", dependencies=[rights(needs_any())], include_in_schema=False)
    async def openapi() -> JSONResponse:
        """This interface, as an OpenAPI document."""
        if not described:
            described.update(describe(api))
        return JSONResponse(described)

    api.router.routes.extend(about.routes)
    return api


def describe(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with our one shape of errors."""
    document = get_openapi(
        title=api.title,
        version=api.version,
        summary=api.summary,
        routes=api.routes,
        servers=[{"url": "/api/v1"}],
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
    problem = {
        "description": "A problem document (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token of an administrator."}
    }
    document["security"] = [{"token": []}]
    for item in document["paths"].values():
        for operation in item.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["default"] = problem
    return document


async def _unfit(request: Request, error: Exception) -> Response:
    """Which field is not what the route takes; never the value, which may be a secret."""
    assert isinstance(error, RequestValidationError)
    details = [
        f"{printable('.'.join(str(part) for part in each['loc']), 200)}: {printable(each['msg'], 200)}"
        for each in error.errors()[:MAX_DETAILS]
    ]
    problem = Problem(
        "bad-request",
        "The request is not what this address takes.",
        "Correct the fields that are named; /api/v1/openapi.json describes them.",
        tuple(details),
    )
    return problem_response(request, problem, 422)
