"""How far a session may be extended."""

from __future__ import annotations

from lockgate.model.policy import SessionOptions


def counted_anew(
    options: SessionOptions, started: float, counted_from: float, now: float, *, by_user: bool
) -> float | None:
    """What the length of a session that is extended now is counted from; None where nothing is gained.

    Users extend to the limit of their roles at most, so that a session, or a cookie that somebody else has got,
    does not live for ever without a sign-in; administrators know what they do. Times are seconds since 1970.
    """
    if not by_user:
        return now
    if not options.allow_extension:
        return None
    limit = options.extension_limit_seconds
    anew = min(now, started + limit - options.length_seconds) if limit else now
    return anew if anew == now or anew > counted_from else None
