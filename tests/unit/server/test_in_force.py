"""What a revision amounts to: what the edge calls rules by."""

import pytest

from lockgate.server import in_force
from lockgate.server.in_force import InForce
from tests.unit.server.support import run
from tests.unit.server.test_follow import access, configuration


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(in_force, "MAX_SETS", 3)


def test_the_names_of_rules_stay_as_long_as_somebody_has_them(few):
    async def work():
        subject = InForce(configuration(), configuration(), 1)
        held = subject.rights(("Staff",))
        for revision in range(2, 12):
            other = access("other", f"10.77.{revision}.0/24", "Guests")
            staff = access("staff", "10.77.1.0/24", "Staff")
            await subject.adopt(configuration(access_control=[staff, other]), revision)
            subject.rights(("Guests",))
        found = subject.rule_names(held.rule_set)
        assert found is not None
        assert (found.roles, found.revision, found.names) == (("Staff",), 1, ("staff",))

    run(work())


def test_a_number_never_stands_for_other_names(few):
    async def work():
        subject = InForce(configuration(), configuration(), 1)
        before = subject.rights(("Staff",))
        await subject.adopt(configuration(access_control=[access("renamed", "10.77.1.0/24", "Staff")]), 2)
        after = subject.rights(("Staff",))
        assert before.rules == after.rules
        assert before.rule_set != after.rule_set
        names = [subject.rule_names(each.rule_set) for each in (before, after)]
        assert [each and (each.revision, each.names) for each in names] == [
            (1, ("staff",)),
            (2, ("renamed",)),
        ]

    run(work())
