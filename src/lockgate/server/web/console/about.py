"""Versions, components and their licences; and the certificate that the gateway shows."""

from __future__ import annotations

import platform
import re
import sqlite3
import ssl
from functools import cache
from importlib import metadata, resources

from starlette.responses import Response

from lockgate import __version__
from lockgate.model.problem import ProblemError
from lockgate.server.web.console.ask import Ask
from lockgate.server.web.console.rest import rest

COMPONENTS = (
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "sqlalchemy",
    "cryptography",
    "jinja2",
    "argon2-cffi",
)


@cache
def _components() -> list[tuple[str, str, str]]:
    """Name, version, licence."""
    found = []
    for name in COMPONENTS:
        try:
            about = metadata.metadata(name).json
        except metadata.PackageNotFoundError:
            continue
        classifiers = [str(each) for each in about.get("classifier", ()) if str(each).startswith("License")]
        by_classifier = classifiers[0].rpartition(" :: ")[2] if classifiers else ""
        licence = str(about.get("license_expression") or by_classifier or about.get("license") or "")
        found.append((name, str(about["version"]), licence.splitlines()[0][:60] if licence else ""))
    return found


@cache
def _assets() -> list[tuple[str, str, str]]:
    table = resources.files("lockgate.server.web").joinpath("static", "vendor", "VENDORED.md").read_text()
    rows = re.findall(r"(?m)^\| (\S+) \| ([0-9][^ ]*) \| (\S+) \|$", table)
    return [row for row in rows if row[0] != "axe-core"]


@cache
def _licences() -> list[tuple[str, str]]:
    folder = resources.files("lockgate.server.web").joinpath("static", "vendor", "licences")
    return sorted((each.name.removesuffix(".txt"), each.read_text()) for each in folder.iterdir())


async def show(ask: Ask) -> Response:
    """GET."""
    config = ask.services.config
    return await ask.page(
        "about.html",
        "about",
        facts=[
            ("Lockgate", __version__),
            ("Revision in force", str(config.number)),
            ("Server ID", config.tree.cluster.server_id),
            ("Python", platform.python_version()),
            ("SQLite", sqlite3.sqlite_version),
            ("OpenSSL (control plane)", ssl.OPENSSL_VERSION),
            ("System", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ],
        components=_components(),
        assets=_assets(),
        licences=_licences(),
    )


async def show_certificate(ask: Ask) -> Response:
    """GET: the device certificate and its chain."""
    chain, remaining, problem = [], None, None
    try:
        found = await rest(ask, "GET", "certificates/device")
        chain, remaining = found["chain"], found["remaining"]
    except ProblemError as error:
        if error.problem.code != "no-certificate":
            raise
        problem = error.problem
    return await ask.page(
        "certificate.html", "device-certificate", chain=chain, remaining=remaining, problem=problem
    )
