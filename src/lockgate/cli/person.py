"""Who answers the questions of a sign-in: somebody at a terminal, or lines on standard input."""

from __future__ import annotations

from typing import Protocol

from lockgate.cli.terminal import Screen
from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret


class ReadLine(Protocol):
    """Shows `text` and waits for a line on standard input. None: there is no more. ValueError: it is too
    long."""

    def __call__(self, text: str, *, hidden: bool) -> bytes | None: ...


class AtTerminal:
    """Somebody who can be asked anything."""

    present = True

    def __init__(self, screen: Screen, read_line: ReadLine) -> None:
        self._screen, self._read_line = screen, read_line

    def tell(self, *lines: str) -> None:
        self._screen.question("".join(f"{line}\n" for line in lines))

    def ask(self, text: str) -> str:
        return self._read(text, hidden=False).decode(errors="replace")

    def secret(self, text: str, *, again: str = "") -> Secret:
        while True:
            first = self._hidden(text)
            if not again:
                return first
            if not first:
                self.tell("It must not be empty.")
            elif first == self._hidden(again):
                return first
            else:
                self.tell("The two are not the same. Once more:")

    def _hidden(self, text: str) -> Secret:
        try:
            return _secret(self._read(text, hidden=True))
        finally:
            self._screen.question("\n")  # the one that was typed is not shown either

    def _read(self, text: str, *, hidden: bool) -> bytes:
        try:
            line = self._read_line(text, hidden=hidden)
        except ValueError:
            raise ProblemError(_TOO_LONG) from None
        if line is None:
            raise ProblemError(_CANCELLED)
        return line


class OnStandardInput:
    """Nobody, but the secrets are there, a line for each."""

    present = False

    def __init__(self, read_line: ReadLine) -> None:
        self._read_line = read_line

    def tell(self, *lines: str) -> None:
        pass

    def ask(self, text: str) -> str:
        raise _nobody(text)

    def secret(self, text: str, *, again: str = "") -> Secret:
        try:
            line = self._read_line("", hidden=True)
        except ValueError:
            raise ProblemError(_TOO_LONG) from None
        if line is None:
            raise ProblemError(
                Problem(
                    code="no-password",
                    summary="The gateway asks for one more secret, but standard input has ended.",
                    fix="Check the password: a wrong one is asked for again. Give a line for each secret.",
                )
            )
        return _secret(line)


class Nobody:
    """Neither a terminal nor secrets."""

    present = False

    def tell(self, *lines: str) -> None:
        pass

    def ask(self, text: str) -> str:
        raise _nobody(text)

    def secret(self, text: str, *, again: str = "") -> Secret:
        raise ProblemError(
            Problem(
                code="no-password",
                summary="There is no terminal to ask for the password.",
                fix="Use --password-stdin, or connect from a terminal.",
            )
        )


def _secret(line: bytes) -> Secret:
    secret = Secret(line)
    try:
        secret.reveal_text()
    except ValueError:
        raise ProblemError(
            Problem("bad-password", "What was given as a secret is not UTF-8.", "Use UTF-8 text.")
        ) from None
    return secret


def _nobody(text: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="no-terminal",
            summary=f'The sign-in asks "{text.strip().rstrip(":?")}", and there is no terminal to answer at.',
            fix="Give --user and --realm, or connect from a terminal.",
        )
    )


_CANCELLED = Problem("cancelled", "The sign-in was cancelled.", "Connect again when you want to.")
_TOO_LONG = Problem("bad-password", "A line is longer than any password.", "Use a shorter one.")
