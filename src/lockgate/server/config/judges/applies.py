"""Which roles a policy applies to, counted without looking at every pair of policy and role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.tree.fields import AppliesTo


def most_per_role(weights: Iterable[tuple[AppliesTo, int]], roles: Iterable[str]) -> tuple[int, str]:
    """The largest sum of weights of what applies to one role, and that role; (0, "") without roles."""
    everybody = 0
    special: Counter[str] = Counter()
    for applies, weight in weights:
        if applies.to == "selected":
            for role in set(applies.roles):
                special[role] += weight
            continue
        everybody += weight
        if applies.to == "except":
            for role in set(applies.roles):
                special[role] -= weight
    return max(((everybody + special[role], role) for role in roles), default=(0, ""))


def names_nobody(applies: AppliesTo, path: Path) -> Iterator[Finding]:
    """Warnings about a policy whose roles do not fit to what it says about them."""
    here = (*path, "applies", "roles")
    if applies.to == "selected" and not applies.roles:
        yield Finding(
            here, "the policy applies to nobody: no role is named", 'roles, or to = "all"', warning=True
        )
    if applies.to == "all" and applies.roles:
        yield Finding(
            here,
            "the roles have no effect: the policy applies to every role",
            'to = "selected" or "except"',
            warning=True,
        )
