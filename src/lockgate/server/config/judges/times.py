"""Times, sizes and costs that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from lockgate.server.config.findings import Finding, Path
from lockgate.server.config.tree import Configuration
from lockgate.server.config.tree.authentication import Argon2, Guard


def judge_sign_in(guard: Guard, argon2: Argon2) -> Iterator[Finding]:
    """Also of config.toml, where they stand under the same keys."""
    if guard.lock_seconds_max < guard.lock_seconds:
        yield Finding(
            ("sign_in", "guard", "lock_seconds_max"),
            f"{guard.lock_seconds_max} is less than lock_seconds ({guard.lock_seconds})",
            "at least lock_seconds",
        )
    if argon2.memory_kib < 8 * argon2.parallelism:
        # RFC 9106, section 3.1
        yield Finding(
            ("sign_in", "argon2", "memory_kib"),
            f"{argon2.memory_kib} is too little for {argon2.parallelism} lanes",
            "at least 8 KiB a lane",
        )


def judge(tree: Configuration) -> Iterator[Finding]:
    yield from judge_sign_in(tree.sign_in.guard, tree.sign_in.argon2)
    for role in tree.roles:
        path: Path = ("roles", role.name, "session")
        length = role.session.length_seconds
        for key in ("idle_seconds", "heartbeat_timeout_seconds", "reminder_seconds"):
            seconds = getattr(role.session, key)
            if seconds >= length:
                yield Finding(
                    (*path, key),
                    f"{seconds} has no effect: a session is {length} seconds long",
                    f"less than length_seconds ({length}), or 0",
                    warning=True,
                )
    for realm in tree.admin_realms:
        if realm.idle_seconds >= realm.session_seconds:
            yield Finding(
                ("admin_realms", realm.name, "idle_seconds"),
                f"{realm.idle_seconds} has no effect: a session is {realm.session_seconds} seconds long",
                f"less than session_seconds ({realm.session_seconds})",
                warning=True,
            )
