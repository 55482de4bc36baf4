"""The connection's state machine: one row per case, readable as a sentence."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.client import machine as m
from lockgate.client.machine import Progress, Via, step
from lockgate.model.problem import Problem

TROUBLE = Problem("trouble", "Something went wrong.", "Try again.")
AGAIN = Problem(
    "dropped-again",
    "The gateway took the session up and lost the connection again (closed).",
    "It is tried again by itself; if it stays so, tell the gateway's administrator.",
)
ESP, TLS = m.Connected(Via.ESP), m.Connected(Via.TLS)


def kinds(actions: list[m.Action]) -> list[str]:
    """Names of the actions; of events in the log their number."""
    return [str(a.id) if isinstance(a, m.Log) else type(a).__name__ for a in actions]


TABLE = [
    ("a user connects", m.Disconnected(), m.UserConnects(), m.Opening(1, False), "100 OpenTransport"),
    (
        "the server answers directly",
        m.Opening(1, False),
        m.TransportOpened("192.0.2.1:443"),
        m.SigningIn(),
        "301",
    ),
    (
        "the server answers through a proxy",
        m.Opening(1, False),
        m.TransportOpened("192.0.2.9:3128", "proxy:3128"),
        m.SigningIn(),
        "300",
    ),
    ("signed in", m.SigningIn(), m.SignedIn(), m.Configuring(1, False), ""),
    ("the tunnel is up", m.Configuring(1, False), m.TunnelUp(), TLS, ""),
    ("ESP is proven", TLS, m.ViaChanged(Via.ESP), ESP, "306"),
    ("ESP falls silent", ESP, m.ViaChanged(Via.TLS), TLS, "305"),
    ("nothing new about ESP", ESP, m.ViaChanged(Via.ESP), ESP, ""),
    ("the end comes near", ESP, m.EndComesNear(5), m.Connected(Via.ESP, minutes=5), ""),
    ("and nearer", m.Connected(Via.TLS, 2, 5), m.EndComesNear(4), m.Connected(Via.TLS, 2, 4), ""),
    ("also over ESP", m.Connected(Via.TLS, 2, 4), m.ViaChanged(Via.ESP), m.Connected(Via.ESP, 2, 4), "306"),
    ("it is far again", m.Connected(Via.ESP, minutes=1), m.EndComesNear(0), ESP, ""),
    ("no end is told without a tunnel", m.Suspended(), m.EndComesNear(5), m.Suspended(), ""),
    (
        "a first attempt that fails is the end",
        m.Opening(1, False),
        m.AttemptFailed(TROUBLE, final=False),
        m.Closing(TROUBLE),
        "303 GiveUp Close",
    ),
    (
        "a machine that refuses is another event",
        m.Configuring(1, False),
        m.AttemptFailed(TROUBLE, final=False, system=True),
        m.Closing(TROUBLE),
        "307 GiveUp Close",
    ),
    (
        "a lost connection comes back by its session",
        ESP,
        m.TransportLost("eof", "192.0.2.1:443"),
        m.Opening(1, True),
        "303 OpenTransport",
    ),
    (
        "the gateway is away: pause",
        m.Opening(1, True),
        m.AttemptFailed(TROUBLE, final=False),
        m.Waiting(1, TROUBLE),
        "GiveUp Pause",
    ),
    ("the pause is over", m.Waiting(1, TROUBLE), m.PauseOver(), m.Opening(2, True), "OpenTransport"),
    (
        "the network comes back during the pause",
        m.Waiting(4, TROUBLE),
        m.PathChanged("", "wlan0"),
        m.Opening(4, True),
        "OpenTransport",
    ),
    (
        "the session is gone at the gateway",
        m.Opening(3, True),
        m.AttemptFailed(TROUBLE, final=True),
        m.Closing(TROUBLE),
        "303 GiveUp Close",
    ),
    ("another network", ESP, m.PathChanged("eth0", "wlan0"), m.Opening(1, True), "304 OpenTransport"),
    (
        "routes changed, put back",
        ESP,
        m.RoutesTampered("a route", "a", "b", fatal=False),
        ESP,
        "304 RepairNetwork",
    ),
    ("the user suspends", ESP, m.UserSuspends(), m.Suspended(), "109 GiveUp CloseTunnel"),
    ("the user resumes", m.Suspended(), m.UserResumes(), m.Opening(1, True), "110 OpenTransport"),
    ("the machine sleeps", ESP, m.MachineSleeps(), m.Asleep(), "106 GiveUp CloseTunnel"),
    ("the machine wakes", m.Asleep(), m.MachineWakes(), m.Opening(1, True), "OpenTransport"),
    ("a sleeping suspended connection stays so", m.Suspended(), m.MachineWakes(), m.Suspended(), ""),
    (
        "a gateway that drops us again at once is given a pause",
        m.Connected(Via.ESP, 2),
        m.TransportLost("closed", "192.0.2.1:443", lived=1.0),
        m.Waiting(2, AGAIN),
        "303 Pause",
    ),
    (
        "a tunnel that has lived comes back at once",
        m.Connected(Via.TLS, 2),
        m.TransportLost("closed", "192.0.2.1:443", lived=m.STEADY),
        m.Opening(1, True),
        "303 OpenTransport",
    ),
    ("the tunnel is up again", m.Configuring(3, True), m.TunnelUp(), m.Connected(Via.TLS, 3), ""),
    (
        "it stays the third attempt over ESP",
        m.Connected(Via.TLS, 3),
        m.ViaChanged(Via.ESP),
        m.Connected(Via.ESP, 3),
        "306",
    ),
    ("the user disconnects", ESP, m.UserDisconnects(), m.Closing(), "101 GiveUp Close"),
    ("closing is monotonic", m.Closing(), m.TunnelUp(), m.Closing(), ""),
    ("all is closed", m.Closing(TROUBLE), m.Closed(), m.Disconnected(TROUBLE), "302"),
    (
        "closed, but the machine is not as it was",
        m.Closing(),
        m.Closed(TROUBLE),
        m.Disconnected(TROUBLE),
        "302",
    ),
    (
        "the server ends the session",
        ESP,
        m.SessionOver(TROUBLE, "7 bye", "192.0.2.1:443"),
        m.Closing(TROUBLE),
        "308 GiveUp Close",
    ),
    ("a session of an earlier service", m.Disconnected(), m.SessionFound(Via.ESP), ESP, ""),
    (
        "a session without a tunnel",
        m.Disconnected(),
        m.SessionFound(None),
        m.Opening(1, True),
        "OpenTransport",
    ),
    ("a late timer", ESP, m.PauseOver(), ESP, ""),
]


@pytest.mark.parametrize(("name", "state", "event", "after", "actions"), TABLE, ids=[row[0] for row in TABLE])
def test_table(name: str, state: m.State, event: m.Event, after: m.State, actions: str) -> None:
    new, performed = step(state, event)
    assert (new, kinds(performed)) == (after, actions.split())


def test_logging_out_is_for_sessions_that_exist() -> None:
    for state, expected in [
        (m.SigningIn(), False),
        (m.Opening(1, False), False),
        (ESP, True),
        (m.Suspended(), True),
        (m.Waiting(2, TROUBLE), True),
    ]:
        [close] = [a for a in step(state, m.UserDisconnects())[1] if isinstance(a, m.Close)]
        assert close.log_out is expected, state
    # What the gateway ended needs no log-out; what failed after the sign-in does.
    assert m.Close(log_out=False) in step(ESP, m.SessionOver(TROUBLE, "", ""))[1]
    failed = step(m.Configuring(1, False), m.AttemptFailed(TROUBLE, final=True))[1]
    assert m.Close(log_out=True) in failed


def test_only_a_user_s_suspension_takes_the_network_back() -> None:
    assert m.CloseTunnel(restore=True) in step(ESP, m.UserSuspends())[1]
    assert m.CloseTunnel(restore=False) in step(ESP, m.MachineSleeps())[1]


def test_what_a_person_reads_when_the_end_comes_near() -> None:
    assert m.note(m.Connected(Via.ESP, minutes=5)) == "the session ends in 5 minutes: sign in again"
    assert m.note(m.Connected(Via.ESP, minutes=1)) == "the session ends in 1 minute: sign in again"
    assert m.note(ESP) == ""


def test_pauses_grow_to_their_limit() -> None:
    pauses = [m.pause_after(attempt) for attempt in range(1, 12)]
    assert pauses[:4] == [0.5, 1, 2, 4]
    assert all(a <= b for a, b in itertools.pairwise(pauses))
    assert pauses[-1] == m.LONGEST_PAUSE == m.pause_after(10**6)


EVENTS: st.SearchStrategy[m.Event] = st.sampled_from(
    [
        m.UserConnects(),
        m.SessionFound(None),
        m.SessionFound(Via.TLS),
        m.TransportOpened("p"),
        m.SignedIn(),
        m.TunnelUp(),
        m.AttemptFailed(TROUBLE, final=False),
        m.AttemptFailed(TROUBLE, final=True),
        m.TransportLost("eof", "p"),
        m.ViaChanged(Via.ESP),
        m.ViaChanged(Via.TLS),
        m.PathChanged("a", "b"),
        m.RoutesTampered("r", "a", "b", fatal=False),
        m.RoutesTampered("r", "a", "b", fatal=True),
        m.PauseOver(),
        m.EndComesNear(3),
        m.SessionOver(TROUBLE, "", ""),
        m.UserDisconnects(),
        m.UserSuspends(),
        m.UserResumes(),
        m.MachineSleeps(),
        m.MachineWakes(),
        m.Closed(),
    ]
)


@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_a_disconnect_ends_it(events: list[m.Event]) -> None:
    """Never stuck, never an attempt without a state that waits for it, never open again after closing."""
    state: m.State = m.Disconnected()
    for event in events:
        before = state
        state, actions = step(state, event)
        names = kinds(actions)
        if "OpenTransport" in names:
            assert isinstance(state, m.Opening)
        if "Close" in names:
            assert isinstance(state, m.Closing)
        if isinstance(before, m.Closing):
            assert isinstance(state, m.Closing | m.Disconnected)
        assert m.progress(state) in Progress
    state, _ = step(state, m.UserDisconnects())
    state, _ = step(state, m.Closed())
    assert isinstance(state, m.Disconnected)
