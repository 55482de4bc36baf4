"""Spans: what an operation was made of and how long each part of it took, for whoever follows it elsewhere.

    with tracing.operation("sign-in", kind="server") as trace:    # begins a trace, unless one is around it
        with tracing.part("password check") as part:              # only inside a trace
            part.note({"lockgate.outcome": "wrong"})

While nothing is exported, or the trace was not drawn, all of this does nothing and costs as much; the SDK is not
imported (`trace_export`). What is around is kept in a variable of our own, so that no library that knows
OpenTelemetry adds to our traces or hears of them.

Attributes are codes, numbers and names of the configuration: never secrets, and nothing about people but what `who`
lets through. Texts of exceptions stay out, since they quote what people typed; paths of requests too, since they
have names in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from lockgate.model.problem import ProblemError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import Tracer

Attributes = Mapping[str, str | int | bool]
Kind = Literal["internal", "server", "client"]

# W3C Trace Context, section 3.2; of later versions we know nothing.
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_SAMPLED = 0x01


class Span:
    """A part of a traced operation; this class is one that nobody records. Times are taken where it is made and
    at its end, which comes with `with` or with `end`."""

    __slots__ = ()

    @property
    def is_recorded(self) -> bool:
        return False

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; "" where nothing is recorded."""
        return ""

    @property
    def traceparent(self) -> str:
        """For the header of that name (W3C Trace Context); "" where nothing is recorded."""
        return ""

    def note(self, attributes: Attributes) -> None:
        """Adds to what is known about it."""

    def rename(self, name: str) -> None:
        """Gives it the name of what it turned out to be."""

    def fail(self, kind: str) -> None:
        """It did not do what it was for. kind: a code, never a text."""

    def end(self) -> None:
        """It is over; further calls do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


NOTHING: Final = Span()

_around: ContextVar[_Around | None] = ContextVar("lockgate trace", default=None)


class _Around(Span):
    """What is inside of it finds it while it is entered."""

    __slots__ = ("_token", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._token: Token[_Around | None] | None = None

    def end(self) -> None:
        self.is_over = True

    def __enter__(self) -> Self:
        self._token = _around.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _around.reset(self._token)
            self._token = None
        if error is not None:
            self.fail(error.problem.code if isinstance(error, ProblemError) else type(error).__name__)
        self.end()


class _NotDrawn(_Around):
    """The beginning of a trace that is not recorded: nothing inside of it is."""

    __slots__ = ()


class _Recorded(_Around):
    __slots__ = ("_span",)

    def __init__(self, span: SdkSpan) -> None:
        super().__init__()
        self._span = span

    @property
    def is_recorded(self) -> bool:
        return True

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self._span.get_span_context().span_id:016x}-{_SAMPLED:02x}"

    @property
    def context(self) -> Context:
        """For what begins inside of it."""
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self._span, Context())

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        if not self.is_over:
            self._span.end()
        super().end()


_tracer: Tracer | None = None
_names_people = False


def use(tracer: Tracer | None, *, names_people: bool = False) -> None:
    """Where spans go from now on; None is nowhere. names_people: whether `who` lets anything through."""
    global _tracer, _names_people
    _tracer, _names_people = tracer, names_people


def operation(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: str = "",
) -> Span:
    """A span that begins a trace where none is around it.

    parent: the `traceparent` of another gateway, which has shown who it is; a stranger's is never taken.
    """
    if _tracer is None:
        return NOTHING
    around = _current()
    if around is not None:
        return _inside(around, name, attributes, kind)
    from opentelemetry.context import Context

    above = _remote(parent) if parent else None
    span = _tracer.start_span(
        name, Context() if above is None else above, _kind(kind), attributes, record_exception=False
    )
    return _Recorded(span) if span.is_recording() else _NotDrawn()


def part(name: str, attributes: Attributes | None = None, *, kind: Kind = "internal") -> Span:
    """A span inside the one that is around; nothing where there is none."""
    if _tracer is None:
        return NOTHING
    around = _current()
    return NOTHING if around is None else _inside(around, name, attributes, kind)


def current() -> Span:
    """The span that is around."""
    return NOTHING if _tracer is None else _current() or NOTHING


def who(user: str = "", address: str = "") -> Attributes:
    """The attributes that name somebody; none unless the configuration wants them."""
    if not _names_people:
        return {}
    return {name: text for name, text in (("user.name", user), ("client.address", address)) if text}


def add_trace_id(_: object, __: str, event: Any) -> Any:
    """Processor of structlog: the lines of a recorded operation have its trace id."""
    found = current()
    if found.is_recorded:
        event["trace_id"] = found.trace_id
    return event


def _current() -> _Around | None:
    """Tasks and timers that outlive an operation know that it is over."""
    found = _around.get()
    return None if found is None or found.is_over else found


def _inside(around: _Around, name: str, attributes: Attributes | None, kind: Kind) -> Span:
    if _tracer is None or not isinstance(around, _Recorded):
        return NOTHING
    return _Recorded(
        _tracer.start_span(name, around.context, _kind(kind), attributes, record_exception=False)
    )


def _kind(kind: Kind) -> Any:
    from opentelemetry.trace import SpanKind

    return {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}[kind]


def _remote(traceparent: str) -> Context | None:
    """What another process's span is for ours; None for what is no traceparent."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace, span, flags = (int(each, 16) for each in found.groups())
    if not trace or not span:
        return None
    known = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags & _SAMPLED))
    return set_span_in_context(NonRecordingSpan(known), Context())
