"""A connection as one pure state machine: (state, event) → (state, actions).

    Disconnected → Opening → SigningIn → Configuring → Connected ⇄ Opening (with session) ⇄ Waiting
    Connected, Opening, Waiting → Suspended | Asleep → Opening
    any → Closing → Disconnected

*Opening* makes a transport (name, TCP, TLS, IF-T). With a session it is a resumption: the network of the
tunnel stays in place meanwhile, so that nothing leaks, and a tunnel that still works keeps carrying packets
until the new one replaces it. What the user wanted, and what went wrong, is in the states; nobody keeps a
flag beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from lockgate.model.problem import Problem

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most: a gateway that comes back is found within that, and a thousand
clients that lost it do not come back in one moment (the shell spreads each pause at random)."""


STEADY = 30.0
"""Seconds a tunnel must have lived to count as one: then a lost connection is made anew at once."""


class Via(StrEnum):
    """What carries packets."""

    TLS = "tls"
    ESP = "esp"


class Progress(StrEnum):
    """The name of a state for people and machines; the values are the local API's."""

    CONNECTING = "connecting"
    SIGNING_IN = "signing-in"
    CONFIGURING = "configuring"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    SUSPENDED = "suspended"
    DISCONNECTING = "disconnecting"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


# -- states ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Disconnected:
    """Nothing is there. `problem` says why, when it was not the user's wish."""

    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """A transport is being made. `attempt` counts from 1 since the last success."""

    attempt: int
    session: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """The session is alive, the last attempt failed: pause before the next one."""

    attempt: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class SigningIn:
    """The server asks, the user answers."""


@dataclass(frozen=True, slots=True)
class Configuring:
    """The gateway has said who we are: addresses, routes, DNS and keys are put in place."""

    attempt: int
    session: bool  # it is a resumption


@dataclass(frozen=True, slots=True)
class Connected:
    """`attempt`: of the reconnection that led here, 0 after a sign-in. `minutes`: until the session ends, once
    the user is to know, else 0."""

    via: Via
    attempt: int = 0
    minutes: int = 0


@dataclass(frozen=True, slots=True)
class Suspended:
    """By the user: no transport, network restored, the session kept for `resume`."""


@dataclass(frozen=True, slots=True)
class Asleep:
    """The machine sleeps; the tunnel's network stays in place, so that nothing leaks at wake-up."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The session is being ended and the machine restored; then Disconnected(problem)."""

    problem: Problem | None = None


State: TypeAlias = (
    Disconnected | Opening | Waiting | SigningIn | Configuring | Connected | Suspended | Asleep | Closing
)


# -- events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserConnects:
    pass


@dataclass(frozen=True, slots=True)
class SessionFound:
    """A session of an earlier service is to be taken up: `via` when its tunnel lives in the edge."""

    via: Via | None


@dataclass(frozen=True, slots=True)
class TransportOpened:
    """TLS stands and the server took the upgrade."""

    peer: str  # "address:port"
    proxy: str = ""  # URL of the web proxy it goes through


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The gateway has given, or confirmed, the session."""


@dataclass(frozen=True, slots=True)
class TunnelUp:
    """Network and edge are ready; packets flow."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """This attempt came to nothing. `final`: no other attempt can succeed."""

    problem: Problem
    final: bool
    system: bool = False  # this machine refused, not the other side


@dataclass(frozen=True, slots=True)
class TransportLost:
    """The TLS connection of the tunnel is gone (or the edge with it). `lived`: seconds since the tunnel was up."""

    reason: str
    peer: str
    lived: float = math.inf


@dataclass(frozen=True, slots=True)
class ViaChanged:
    via: Via


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Packets to the gateway now leave by another interface or address."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RoutesTampered:
    """Somebody changed what we had set. `fatal`: the gateway wants us to disconnect then."""

    what: str
    old: str
    new: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class PauseOver:
    """The pause asked for by OpenTransport-after-Waiting has passed, or the network came back."""


@dataclass(frozen=True, slots=True)
class SessionOver:
    """The server, or time, ended the session."""

    problem: Problem
    code: str
    peer: str


@dataclass(frozen=True, slots=True)
class EndComesNear:
    """Time: the session ends in so many minutes, and the user is to know; 0 takes that back."""

    minutes: int


@dataclass(frozen=True, slots=True)
class UserDisconnects:
    pass


@dataclass(frozen=True, slots=True)
class UserSuspends:
    pass


@dataclass(frozen=True, slots=True)
class UserResumes:
    pass


@dataclass(frozen=True, slots=True)
class MachineSleeps:
    pass


@dataclass(frozen=True, slots=True)
class MachineWakes:
    pass


@dataclass(frozen=True, slots=True)
class Closed:
    """Everything that Close asked for is done; `problem`: but for this."""

    problem: Problem | None = None


Event: TypeAlias = (
    UserConnects
    | SessionFound
    | TransportOpened
    | SignedIn
    | TunnelUp
    | AttemptFailed
    | TransportLost
    | ViaChanged
    | PathChanged
    | RoutesTampered
    | PauseOver
    | SessionOver
    | EndComesNear
    | UserDisconnects
    | UserSuspends
    | UserResumes
    | MachineSleeps
    | MachineWakes
    | Closed
)


# -- actions ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenTransport:
    """Start an attempt; any attempt under way is given up first."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Come back with PauseOver after about this many seconds (spread at random by the shell)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop the attempt under way, and any pause."""


@dataclass(frozen=True, slots=True)
class CloseTunnel:
    """Close the tunnel in the edge without ending the session. `restore`: take the network back too."""

    restore: bool


@dataclass(frozen=True, slots=True)
class RepairNetwork:
    """Put back what somebody changed."""


@dataclass(frozen=True, slots=True)
class Close:
    """End everything: log out if `log_out`, restore the machine, forget the session; then Closed."""

    log_out: bool


@dataclass(frozen=True, slots=True)
class Log:
    """Write an event of the guide's list."""

    id: int
    facts: dict[str, str] = field(default_factory=dict)


Action: TypeAlias = OpenTransport | Pause | GiveUp | CloseTunnel | RepairNetwork | Close | Log


# -- the one function ------------------------------------------------------------------------------


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """The only place where a connection changes state. Pure: actions are returned, not done."""
    match state, event:
        case Disconnected(), UserConnects():
            return Opening(1, session=False), [Log(100), OpenTransport()]
        case Disconnected(), SessionFound(via=None):
            return Opening(1, session=True), [OpenTransport()]
        case Disconnected(), SessionFound(via=Via() as via):
            return Connected(via), []

        # What ends everything, whatever the state.
        case ((Disconnected() | Closing()), (UserDisconnects() | UserSuspends())):
            return state, []
        case ((Opening(session=False) | SigningIn()), UserDisconnects()):
            # Nothing was set up, and the server forgets a sign-in that is not finished.
            return Closing(), [Log(101), GiveUp(), Close(log_out=False)]
        case Configuring() | Connected() | Opening() | Waiting() | Suspended() | Asleep(), UserDisconnects():
            return Closing(), [Log(101), GiveUp(), Close(log_out=True)]
        case ((Opening() | Configuring() | Connected() | Waiting() | Suspended() | Asleep()), SessionOver()):
            facts = {"reason": event.code, "peer": event.peer}
            return Closing(event.problem), [Log(308, facts), GiveUp(), Close(log_out=False)]
        case Closing(problem), Closed(left):
            return Disconnected(problem or left), [Log(302)]

        # On the way to a tunnel.
        case Opening(attempt, session), TransportOpened(peer, proxy):
            log = Log(300, {"proxy": proxy}) if proxy else Log(301, {"address": peer})
            if session:
                return Configuring(attempt, session=True), [log]
            return SigningIn(), [log]
        case SigningIn(), SignedIn():
            return Configuring(1, session=False), []
        case Configuring(attempt, session), TunnelUp():
            return Connected(Via.TLS, attempt if session else 0), []
        case ((Opening() | SigningIn() | Configuring()), AttemptFailed(problem, final, system)):
            return _failed(state, problem, final, system)
        case Waiting(attempt), PauseOver():
            return Opening(attempt + 1, session=True), [OpenTransport()]

        # A tunnel and what may happen to it.
        case Connected(Via.ESP), ViaChanged(Via.TLS):
            return replace(state, via=Via.TLS), [Log(305)]
        case Connected(Via.TLS), ViaChanged(Via.ESP):
            return replace(state, via=Via.ESP), [Log(306)]
        case Connected(), EndComesNear(minutes):
            return replace(state, minutes=minutes), []  # the field's list of events has none for it
        case Connected(attempt=attempt), TransportLost(reason, peer, lived):
            log = Log(303, {"error": reason, "peer": peer})
            if attempt and lived < STEADY:
                # A gateway that takes us and drops us is no reason to knock all the time.
                return Waiting(attempt, _dropped(reason)), [log, Pause(pause_after(attempt))]
            return Opening(1, session=True), [log, OpenTransport()]
        case Configuring(attempt, session=True), TransportLost():
            return Opening(attempt, session=True), [OpenTransport()]
        case ((Connected() | Opening(session=True) | Configuring(session=True)), PathChanged(old, new)):
            return Opening(1, session=True), [Log(304, {"old": old, "new": new}), OpenTransport()]
        case Waiting(attempt), PathChanged():
            return Opening(attempt, session=True), [OpenTransport()]
        case ((Connected() | Opening(session=True) | Configuring()), RoutesTampered(what, old, new, fatal)):
            log = Log(304, {"old": old, "new": new})
            if not fatal:
                return state, [log, RepairNetwork()]
            problem = Problem(
                "routes-changed",
                f"The connection was ended because {what} was changed by another program.",
                "Find the program that changes routes, then connect again.",
            )
            return Closing(problem), [log, GiveUp(), Close(log_out=True)]

        # Suspended by the user: session kept, machine as if there were no connection.
        case ((Connected() | Opening(session=True) | Waiting() | Configuring() | Asleep()), UserSuspends()):
            return Suspended(), [Log(109), GiveUp(), CloseTunnel(restore=True)]
        case Suspended(), UserResumes():
            return Opening(1, session=True), [Log(110), OpenTransport()]

        # The machine sleeps: the tunnel's routes stay, so that nothing leaks when it wakes.
        case ((Connected() | Opening(session=True) | Waiting() | Configuring(session=True)), MachineSleeps()):
            return Asleep(), [Log(106), GiveUp(), CloseTunnel(restore=False)]
        case Asleep(), (MachineWakes() | UserResumes()):
            return Opening(1, session=True), [OpenTransport()]

        case _:
            return state, []  # late timers and news of what is over are normal here


def _failed(
    state: Opening | SigningIn | Configuring, problem: Problem, final: bool, system: bool
) -> tuple[State, list[Action]]:
    """What an attempt that came to nothing means: another one, or the end."""
    log = Log(307 if system else 303, {"error": problem.code, "peer": ""})
    has_session = not isinstance(state, SigningIn) and state.session
    if has_session and not final:
        assert not isinstance(state, SigningIn)
        pause = pause_after(state.attempt)
        return Waiting(state.attempt, problem), [GiveUp(), Pause(pause)]
    # A session that the gateway gave in this very attempt must not be left behind.
    log_out = isinstance(state, Configuring)
    return Closing(problem), [log, GiveUp(), Close(log_out=log_out)]


def _dropped(reason: str) -> Problem:
    return Problem(
        "dropped-again",
        f"The gateway took the session up and lost the connection again ({reason}).",
        "It is tried again by itself; if it stays so, tell the gateway's administrator.",
    )


def pause_after(attempt: int) -> float:
    """Seconds before the attempt after this one: 0.5, 1, 2, 4 … LONGEST_PAUSE."""
    return float(min(0.5 * 2 ** min(attempt - 1, 16), LONGEST_PAUSE))


# -- what people see is derived, never set ---------------------------------------------------------


def progress(state: State) -> Progress:
    """The name of a state."""
    match state:
        case Disconnected(None):
            return Progress.DISCONNECTED
        case Disconnected():
            return Progress.FAILED
        case Opening(session=False):
            return Progress.CONNECTING
        case SigningIn():
            return Progress.SIGNING_IN
        case Configuring(session=False):
            return Progress.CONFIGURING
        case Opening() | Configuring() | Waiting() | Asleep():
            return Progress.RECONNECTING
        case Connected():
            return Progress.CONNECTED
        case Suspended():
            return Progress.SUSPENDED
        case Closing():
            return Progress.DISCONNECTING


def attempt_of(state: State) -> int:
    """Attempts since the last success, 0 where none is being made."""
    return state.attempt if isinstance(state, Opening | Waiting | Configuring) else 0


def problem_of(state: State) -> Problem | None:
    """What a person should know about the state."""
    return state.problem if isinstance(state, Disconnected | Waiting | Closing) else None


def note(state: State) -> str:
    """One line for people beside the name of the state."""
    match state:
        case Waiting(attempt, problem):
            return f"attempt {attempt} failed: {problem.summary}"
        case Opening(attempt, session=True) if attempt > 1:
            return f"attempt {attempt}"
        case Asleep():
            return "the machine sleeps"
        case Connected(minutes=minutes) if minutes:
            return f"the session ends in {minutes} minute{'s' if minutes > 1 else ''}: sign in again"
        case _:
            return ""
