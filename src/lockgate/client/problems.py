"""What can go wrong on the way to a gateway, in the words of the person who wanted to connect.

Codes never change: logs, documentation and tests key on them.
"""

from __future__ import annotations

from lockgate.model.problem import Problem
from lockgate.model.support_code import said_in
from lockgate.protocol.edge_link import DialFailure

EDGE_DIED = Problem(
    "edge-died", "The packet process of this machine ended unexpectedly.", "It is started again by itself."
)
NOBODY_TO_ASK = Problem(
    "nobody-to-ask",
    "The gateway asks for a sign-in, but the connection runs in the background.",
    "Connect again from a terminal.",
)
CANCELLED = Problem("cancelled", "The sign-in was cancelled.", "Connect again when you want to.")
SERVER_SILENT = Problem(
    "server-silent",
    "The gateway stopped answering during the sign-in.",
    "Try again; if it stays so, tell its administrator.",
)
SESSION_GONE = Problem(
    "session-gone",
    "The gateway does not know this session any more: it ended there.",
    "Connect again and sign in.",
)
LINK_NOT_TAKEN = Problem(
    "link-not-taken",
    "The gateway asks for a sign-in instead of taking the link.",
    "Click Start in its portal again, or connect by its address.",
)
SESSION_EXPIRED = Problem(
    "session-expired", "The session has reached its time limit.", "Connect again and sign in."
)
NO_NETWORK = Problem(
    "no-network", "There is no network that leads to the gateway.", "Connect this machine to a network."
)


def server_broke_protocol(what: str) -> Problem:
    return Problem(
        "server-broke-protocol",
        f"The gateway said something that no gateway says ({what}).",
        "Is the address right? If it is, tell its administrator.",
    )


def server_closed(cause: str) -> Problem:
    return Problem(
        "server-closed",
        f"The gateway closed the connection ({cause}).",
        "Try again; if it stays so, tell its administrator.",
    )


def refused(text: str) -> Problem:
    """text: of the gateway, for the user. Its support code, if it has one, is a field of its own as well."""
    code = said_in(text)
    fix = "Check what you typed; the help desk finds the reason by the support code."
    summary = f"The gateway refused the sign-in: {text}"
    return Problem("refused", summary, fix if code else "Check what you typed.", support=code)


def session_refused(text: str) -> Problem:
    """Our own session may not go on; the gateway says why."""
    return Problem(
        SESSION_GONE.code,
        f"The gateway does not let this session go on: {text}",
        SESSION_GONE.fix,
        support=said_in(text),
    )


def failed(code: int) -> Problem:
    """AVP d60 (if-t-tls.md, section 8.8)."""
    known = {
        0x0D: ("locked-out", "This account or address is locked after failed attempts.", "Try again later."),
        0x0E: ("certificate-required", "The gateway asks for a client certificate.", "Ask for one."),
        0x10: (SESSION_GONE.code, SESSION_GONE.summary, SESSION_GONE.fix),
    }
    if code in known:
        return Problem(*known[code])
    return Problem(
        "sign-in-failed",
        f"The gateway refused the sign-in (code {code:#x}).",
        "Ask its administrator what this code means.",
    )


def server_ended(code: int, text: str) -> Problem:
    """A fatal frame (if-t-tls.md, section 11)."""
    reasons = {
        6: ("session-replaced", "Another sign-in replaced this session."),
        7: ("session-terminated", "The gateway ended this session."),
        8: ("session-timed-out", "The session timed out."),
    }
    name, summary = reasons.get(code, ("session-ended", f"The gateway ended this session (code {code})."))
    fix = "Connect again if you need it."
    return Problem(name, f"{summary} {text}".strip(), fix, support=said_in(text))


def no_such_realm(wish: str, names: str) -> Problem:
    return Problem("no-such-realm", f"The gateway has no realm {wish}.", f"Choose one of: {names}.")


def dial_failed(cause: DialFailure, detail: str, host: str) -> Problem:
    """Why TLS or the upgrade came to nothing."""
    match cause:
        case DialFailure.UNTRUSTED:
            return Problem(
                "certificate-untrusted",
                f"The certificate of {host} was not issued by anybody this machine trusts.",
                "Give the gateway's CA with --ca, or its key with --pin.",
            )
        case DialFailure.WRONG_NAME:
            return Problem(
                "certificate-wrong-name",
                f"The certificate presented is not for {host}.",
                "Check the address; connect by the name in the certificate.",
            )
        case DialFailure.EXPIRED:
            return Problem(
                "certificate-expired",
                f"The certificate of {host} has expired.",
                "Check this machine's clock; if it is right, tell the gateway's administrator.",
            )
        case DialFailure.NOT_YET_VALID:
            return Problem(
                "certificate-not-yet-valid",
                f"The certificate of {host} is not valid yet.",
                "Check this machine's clock; if it is right, tell the gateway's administrator.",
            )
        case DialFailure.PIN_MISMATCH:
            return Problem(
                "certificate-changed",
                f"{host} presents another key than the one expected. Somebody may be listening in.",
                "Do not go on unless the gateway's administrator confirms the new key; then give it with --pin.",
            )
        case DialFailure.HTTP_STATUS | DialFailure.HTTP:
            return Problem(
                "not-a-gateway",
                f"{host} does not answer as a gateway ({detail}).",
                "Check the address.",
            )
        case DialFailure.TIMEOUT:
            return Problem("server-silent", f"{host} does not answer.", "Check the address and the network.")
        case DialFailure.CLOSED | DialFailure.TLS:
            return Problem(
                "tls-failed",
                f"No protected connection to {host}: {detail}.",
                "Check the address; something on the way may be in between.",
            )


def proxy_failed(proxy: str, reason: str) -> Problem:
    return Problem(
        "proxy-failed",
        f"The web proxy {proxy} does not connect us: {reason}.",
        "Check the proxy's address, or connect with --proxy none.",
    )
