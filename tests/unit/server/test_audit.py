"""The audit's front: entries are bounded and printable, in the database and in the log."""

import pytest
from structlog.testing import capture_logs

from lockgate.server.audit import Audit, log_of
from lockgate.server.logs import configure_logs
from lockgate.server.store.interface import AuditFilter
from tests.unit.server.store_support import new_store, run

EVENTS = [
    ("sign-in", "user"), ("session-end", "user"), ("cookie-replayed", "user"), ("web-session-end", "user"),
    ("user-add", "admin"), ("config-commit", "admin"), ("token-create", "admin"), ("backup", "admin"),
    ("audit-prune", "admin"), ("started", "events"), ("edge-died", "events"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "log"), EVENTS)
def test_an_event_has_its_log(event, log):
    assert log_of(event) == log


def test_what_comes_from_outside_fits_the_database(place):
    """PostgreSQL is strict about both: lengths, and characters that no text can have."""
    long = "a\x00\ud800\n\U0001f600" * 500

    async def work():
        async with new_store(place) as store:
            audit = Audit(store.audit, lambda: 7)
            configure_logs("info")  # whatever a test before this one wanted
            with capture_logs() as logs:
                await audit.record(
                    long,
                    ok=False,
                    reason=long,
                    user=long,
                    source=long,
                    text=long,
                    actor=long,
                    session=2**63 - 1,
                )
            (record,) = await store.audit.page(AuditFilter(), 2)
            (line,) = logs
            assert (line["log_level"], line["user"]) == ("warning", record.entry.user)
            return record.entry

    entry = run(work())
    assert all(text.isprintable() for text in (entry.event, entry.user, entry.text, entry.actor))
    assert (entry.time, entry.outcome, entry.session) == (7.0, "failed", 2**63 - 1)


def test_a_log_that_is_named_counts(place):
    async def work():
        async with new_store(place) as store:
            audit = Audit(store.audit)
            await audit.record("sign-in", ok=True, log="admin", actor="root", revision=3)
            (record,) = await store.audit.page(AuditFilter(), 2)
            return record.entry.log, record.entry.actor, record.entry.revision

    assert run(work()) == ("admin", "root", 3)
