"""What a client hears when its session ends, and what the edge's word for an end means."""

from __future__ import annotations

from dataclasses import replace

from lockgate.model.session import EndCause
from lockgate.model.support_code import sentence
from lockgate.protocol import edge_link

# if-t-tls.md, section 11: errorType of a fatal frame.
_REPLACED, _TERMINATED, _TIMED_OUT = 6, 7, 8

_FAREWELLS = {
    EndCause.IDLE: edge_link.Fatal(_TIMED_OUT, "The session ended because it was not used."),
    EndCause.EXPIRED: edge_link.Fatal(_TIMED_OUT, "The session has reached its maximum length."),
    EndCause.AWAY: edge_link.Fatal(_TIMED_OUT, "The session ended because its client was away for too long."),
    EndCause.REPLACED: edge_link.Fatal(_REPLACED, "The session was ended by another sign-in of its user."),
    EndCause.DISCONNECTED: edge_link.Fatal(_TERMINATED, "An administrator ended the session."),
    EndCause.USER_DISABLED: edge_link.Fatal(_TERMINATED, "The account was disabled."),
    EndCause.USER_DELETED: edge_link.Fatal(_TERMINATED, "The account was removed."),
    EndCause.PASSWORD_CHANGED: edge_link.Fatal(_TERMINATED, "The password was changed: sign in again."),
    EndCause.POLICY_CHANGED: edge_link.Fatal(
        _TERMINATED, "The configuration was changed, and the account gives no VPN access any more."
    ),
    EndCause.PORTAL_ENDED: edge_link.Fatal(_TERMINATED, "The sign-in to the portal has ended."),
    EndCause.COOKIE_REPLAYED: edge_link.Fatal(
        _TERMINATED, "The session was ended because somebody else tried to take it over: sign in again."
    ),
}

_OF_EDGE = {
    edge_link.EndCause.IDLE: EndCause.IDLE,
    edge_link.EndCause.EXPIRED: EndCause.EXPIRED,
    edge_link.EndCause.LOGOUT: EndCause.LOGOUT,
}


def farewell(cause: EndCause | None, code: str = "") -> edge_link.Fatal | None:
    """What the client is told; None where it knows. No cause is an administrator's doing.

    code: the support code of the end.
    """
    found = _FAREWELLS.get(cause or EndCause.DISCONNECTED)
    return found if found is None or not code else replace(found, text=f"{found.text} {sentence(code)}")


def cause_of(said: edge_link.EndCause) -> EndCause:
    """The cause of an end that the edge decided; not for ORPHANED, which is none."""
    return _OF_EDGE[said]
