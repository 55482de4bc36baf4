"""`lockgate connect` with a launch link: reading it, hiding it, and asking before anything happens."""

from __future__ import annotations

import select
from contextlib import suppress
from pathlib import Path

from lockgate.cli.plain import plain
from lockgate.cli.terminal import Keyboard, Screen
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.launch_url import LaunchUrl, handle_text, parse_launch_url

AUTO_LAUNCH = "(Auto Launch)"
"""Stands behind the name of a connection that an administrator's link made."""


def read_link(argument: str, keyboard: Keyboard, screen: Screen) -> LaunchUrl:
    """The link in the argument, which then is hidden from the list of processes; `-` reads a line instead."""
    if argument == "-":
        if keyboard.is_terminal:
            screen.question("Link: ")
        text = _line(keyboard).strip()
    else:
        text = argument
        hide_argument(argument)
    try:
        return parse_launch_url(text)
    except ValueError as error:
        raise ProblemError(
            Problem("bad-link", str(error), "Click Start in the portal again, or ask who made the link.")
        ) from None


def hide_argument(value: str) -> None:
    """Overwrites the argument in the memory that the kernel shows to other processes. Does what it can."""
    wanted = value.encode(errors="surrogateescape")
    with suppress(OSError, ValueError, IndexError):
        # Fields behind the name, which may hold blanks and parentheses: arg_start and arg_end (proc(5)).
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            at = arguments.find(b"\0" + wanted + b"\0")
            if at >= 0:
                memory.seek(start + at + 1)
                memory.write(b"-" * len(wanted))


def request_of(link: LaunchUrl) -> dict[str, object]:
    """The fields of the service's `connect` that the link fills in."""
    fields: dict[str, object] = {"name": link.name if link.handle else link.name + AUTO_LAUNCH}
    if link.user:
        fields["user"] = link.user
    if link.realm:
        fields["realm"] = link.realm
    if link.handle is not None:
        fields["handle"] = handle_text(link.handle)
    return fields


def ask_about(link: LaunchUrl, keyboard: Keyboard, screen: Screen) -> None:
    """Shows what the link wants and waits for a yes. ProblemError: there was none, or nobody to say it.

    Any web page can make such a link, so the whole address is shown, and Enter alone is a no.
    """
    if not keyboard.is_terminal:
        raise ProblemError(
            Problem(
                "link-not-confirmed",
                "A link connects only after somebody at a terminal has agreed.",
                "Open it at a terminal, or connect by the gateway's address.",
            )
        )
    lines = [f'A link wants to connect this machine as "{plain(link.name, 64)}" to', f"  {link.server}"]
    if link.user:
        lines.append(f"  as user {plain(link.user, 80)}")
    if link.realm:
        lines.append(f"  in realm {plain(link.realm, 64)}")
    if link.handle is not None:
        lines.append("  with the session that is signed in there in your browser")
    screen.question("\n".join([*lines, "Connect (yes/no)? [no] "]))
    if _line(keyboard).strip().casefold() not in ("yes", "y"):
        raise ProblemError(
            Problem("link-declined", "Nothing was connected.", "Open the link again when you want to.")
        )


def _line(keyboard: Keyboard) -> str:
    while not keyboard.has_line:
        select.select([keyboard], [], [])
        keyboard.fill()
    try:
        return (keyboard.take_line() or b"").decode(errors="replace")
    except ValueError:
        return ""
