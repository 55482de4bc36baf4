"""Who may try a password when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.server.auth import guard as module
from lockgate.server.auth.guard import Guard, Verdict, source_key
from lockgate.server.config.tree.authentication import Guard as Settings

SETTINGS = Settings(
    window_seconds=300,
    failures_per_address=10,
    failures_per_user_and_address=3,
    failures_per_user=6,
    lock_seconds=60,
    lock_seconds_max=200,
    slow_seconds=10,
)
HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "2001:db8::1"


def guard():
    return Guard(SETTINGS)


def fail(subject, user, source, now, times=1):
    for _ in range(times):
        assert subject.begin(user, source, now) is Verdict.OPEN
        subject.failed(user, source, now)


def test_a_few_failures_are_nothing():
    subject = guard()
    fail(subject, "alice", HERE, 0.0, times=2)
    assert subject.check("alice", HERE, 0.0) is Verdict.OPEN


def test_too_many_lock_the_user_there_and_nowhere_else():
    subject = guard()
    fail(subject, "alice", HERE, 0.0, times=3)
    assert subject.check("alice", HERE, 59.9) is Verdict.USER_LOCKED
    assert subject.check("alice", THERE, 0.0) is Verdict.OPEN
    assert subject.check("bob", HERE, 0.0) is Verdict.OPEN
    assert subject.check("alice", HERE, 60.0) is Verdict.OPEN


def test_locks_double_up_to_the_longest_and_forget_after_a_quiet_time():
    subject = guard()
    now, lengths = 0.0, []
    for _ in range(4):
        while subject.check("alice", HERE, now) is Verdict.OPEN:
            fail(subject, "alice", HERE, now)
        start = now
        while subject.check("alice", HERE, now) is Verdict.USER_LOCKED:
            now += 1
        lengths.append(now - start)
    assert lengths == [60, 120, 200, 200]
    now += SETTINGS.window_seconds + 1
    fail(subject, "alice", HERE, now, times=3)
    assert subject.check("alice", HERE, now + 60) is Verdict.OPEN


def test_failures_drain_over_the_window():
    subject = guard()
    for number in range(20):
        fail(subject, "alice", HERE, number * 150.0)  # 3 in 300 s would lock, 2 do not
    assert subject.check("alice", HERE, 20 * 150.0) is Verdict.OPEN


def test_many_names_from_one_address_lock_the_address():
    subject = guard()
    for number in range(10):
        fail(subject, f"user{number}", HERE, 0.0)
    assert subject.check("anybody", HERE, 0.0) is Verdict.ADDRESS_LOCKED
    assert subject.check(None, HERE, 0.0) is Verdict.ADDRESS_LOCKED
    assert subject.check("anybody", THERE, 0.0) is Verdict.OPEN


def test_what_cannot_be_a_name_counts_for_its_address():
    subject = guard()
    fail(subject, None, HERE, 0.0, times=10)
    assert subject.check("alice", HERE, 0.0) is Verdict.ADDRESS_LOCKED


def test_an_own_account_does_not_clear_the_address():
    subject = guard()
    for number in range(9):
        fail(subject, f"user{number}", HERE, 0.0)
        subject.succeeded("mallory", HERE)
    fail(subject, "user9", HERE, 0.0)
    assert subject.check("mallory", HERE, 0.0) is Verdict.ADDRESS_LOCKED


def test_success_clears_the_pair():
    subject = guard()
    fail(subject, "alice", HERE, 0.0, times=2)
    subject.succeeded("alice", HERE)
    fail(subject, "alice", HERE, 0.0, times=2)
    assert subject.check("alice", HERE, 0.0) is Verdict.OPEN


def test_strangers_everywhere_slow_a_user_down_only_where_the_user_is_new():
    subject = guard()
    subject.succeeded("alice", HERE)
    for number in range(6):
        fail(subject, "alice", f"198.51.100.{number}", 0.0)
    # One more attempt by any stranger, then one for each pause.
    assert subject.begin("alice", "198.51.100.77", 1.0) is Verdict.OPEN
    assert subject.check("alice", "198.51.100.78", 10.9) is Verdict.SLOWED
    assert subject.check("alice", THERE, 10.9) is Verdict.SLOWED
    assert subject.begin("alice", THERE, 11.0) is Verdict.OPEN
    assert subject.begin("alice", ELSEWHERE, 11.0) is Verdict.SLOWED
    # The user's own place and other users do not notice.
    assert subject.begin("alice", HERE, 11.0) is Verdict.OPEN
    assert subject.begin("alice", HERE, 11.0) is Verdict.OPEN
    assert subject.begin("bob", THERE, 11.0) is Verdict.OPEN
    # When the strangers give up, so does the pause.
    assert subject.begin("alice", THERE, 400.0) is Verdict.OPEN
    assert subject.begin("alice", THERE, 400.0) is Verdict.OPEN


def test_failures_at_the_users_own_place_slow_nobody():
    subject = guard()
    subject.remember("alice", HERE)
    for now in range(0, 1000, 150):
        fail(subject, "alice", HERE, float(now))
    assert subject.begin("alice", THERE, 1000.0) is Verdict.OPEN
    assert subject.begin("alice", THERE, 1000.0) is Verdict.OPEN


def test_looking_changes_nothing():
    subject = guard()
    for number in range(6):
        fail(subject, "alice", f"198.51.100.{number}", 0.0)
    for _ in range(3):
        assert subject.check("alice", THERE, 1.0) is Verdict.OPEN


KEYS = [
    ("192.0.2.1", "192.0.2.1"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:db8::1", "2001:db8::/64"),
    ("2001:db8:0:0:ffff::2", "2001:db8::/64"),
    ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
    ("not an address", "not an address"),
]


@pytest.mark.parametrize(("source", "key"), KEYS)
def test_source_key(source, key):
    assert source_key(source) == key


def test_tables_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_RECORDS", 50)
    monkeypatch.setattr(module, "MAX_KNOWN", 50)
    subject = guard()
    for number in range(500):
        source = f"10.0.{number // 250}.{number % 250}"
        subject.failed(f"user{number}", source, 0.0)
        subject.succeeded(f"known{number}", source)
    for table in (
        subject._addresses._records,
        subject._pairs._records,
        subject._users._records,
        subject._known,
    ):
        assert len(table) <= 50


attempts = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", None]),
        st.sampled_from([HERE, THERE, ELSEWHERE]),
        st.integers(0, 100),
        st.booleans(),
    ),
    max_size=80,
)


@given(attempts)
def test_guesses_are_few_whatever_the_order(made):
    """The burst and what drains in the time: no order of attempts gets more failures in."""
    subject, now, wrong = guard(), 0.0, {}
    for user, source, pause, right in made:
        now += pause
        if subject.begin(user, source, now) is not Verdict.OPEN:
            continue
        if right and user is not None:
            subject.succeeded(user, source)
        else:
            subject.failed(user, source, now)
            wrong[source] = wrong.get(source, 0) + 1
    most = SETTINGS.failures_per_address * (1 + now / SETTINGS.window_seconds)
    assert all(count <= most + 1 for count in wrong.values())
