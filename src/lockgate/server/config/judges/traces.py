"""Traces: where they go, and whether this server can send them there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lockgate.model.problem import ProblemError
from lockgate.server.config.findings import Finding
from lockgate.server.config.judges.certificates import pem
from lockgate.server.config.tree import Configuration
from lockgate.server.trace_export import is_installed, parse_headers, parse_url

_URL = "https://HOST:4318/v1/traces, or http:// with 127.0.0.1, [::1] or localhost"


def judge(tree: Configuration) -> Iterator[Finding]:
    traces = tree.traces
    if traces.ca:
        yield from pem(traces.ca, ("traces", "ca"))
    if not traces.url:
        if traces.enabled:
            yield Finding(("traces", "url"), "there is no collector to export to", _URL)
        return
    try:
        parse_url(traces.url)
    except ValueError as error:
        yield Finding(("traces", "url"), str(error), _URL)


def judge_here(tree: Configuration, open_secret: Callable[[str], str]) -> Iterator[Finding]:
    """What only the server itself knows: its packages and its key. An older revision is not judged by it, or a
    package that is gone would keep the server from starting."""
    traces = tree.traces
    if traces.enabled and not is_installed():
        yield Finding(
            ("traces", "enabled"),
            "OpenTelemetry's packages are not installed on this server",
            "false, or the package with its extra: pip install 'lockgate[server,traces]'",
        )
    if not traces.headers:
        return
    try:
        parse_headers(open_secret(traces.headers))
    except ProblemError:
        return  # said already
    except ValueError as error:
        yield Finding(("traces", "headers"), str(error), "name=value, separated by commas")
