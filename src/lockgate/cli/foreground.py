"""One connection with a person in front of it: from the request to the last state.

Everything that happens comes through one `select`: the service's lines, keys, signals. Closing the
socket tells the service that nobody is in front any more, so even `kill -9` of this process ends a
connection that was not left in the background.
"""

from __future__ import annotations

import select
import signal
import time
from collections import deque
from contextlib import nullcontext, suppress
from typing import Any

from lockgate.cli.details import details_lines, state_line
from lockgate.cli.terminal import Keyboard, Screen, Signals
from lockgate.client.local_client import LocalClient, is_refusal, read_problem, result
from lockgate.model.problem import Problem, ProblemError

# Telling the gateway takes 10 s at most when it does not answer; undoing takes milliseconds.
RESTORATION = 60.0  # seconds until the service has said that everything is as it was
COMEBACK = 30.0  # seconds a service that ended may take to be there again
COMEBACK_INTERVAL = 0.5  # seconds between two looks
EXIT_SIGNAL = 128  # plus the signal's number: as a shell reports it

_GONE = ("client-gone", "client-silent")

Message = dict[str, Any]


class _Interrupted(Exception):
    """A signal: the connection is to end."""


class _Superseded(Exception):
    """The service has said something that makes the open question pointless."""


class Foreground:
    """Runs once."""

    def __init__(
        self,
        client: LocalClient,
        screen: Screen,
        signals: Signals,
        keyboard: Keyboard,
        *,
        background: bool,
        password_stdin: bool,
    ) -> None:
        self._client, self._screen, self._signals, self._keyboard = client, screen, signals, keyboard
        self._user = ""  # as the command line named it
        self._background = background
        self._password_stdin = password_stdin
        self._inbox: deque[Message] = deque()
        self._connection: str | None = None
        self._request = 0  # number of the `connect` request
        self._details = 0  # … of the `details` request
        self._leaving = 0  # … of the `disconnect` request
        self._stopped_by = 0  # the signal
        self._was_connected = False
        self._over = False  # the service has undone everything, or is not there any more

    def run(self, request: dict[str, object]) -> int:
        """The exit status: 0 when the user ended an established connection, or left it in the background.
        ProblemError: why there is no connection any more.

        request: the fields of `connect`.
        """
        self._user = str(request.get("user", ""))
        self._request = self._client.send("connect", **request)
        self._screen.state("connecting")
        while True:
            try:
                return self._serve()
            except _Interrupted:
                return self._end()
            except ProblemError as error:
                if error.problem.code in _GONE:
                    if self._was_connected and self._comes_back():
                        continue
                elif not self._over and error.problem.code != "client-garbled":
                    self._end()
                raise

    def _serve(self) -> int:
        """Does what comes until the last message; the exit status."""
        while True:
            while self._inbox:
                if (status := self._receive(self._inbox.popleft())) is not None:
                    return status
            self._wait(keyboard=False)

    def _comes_back(self) -> bool:
        """Waits for the next client service, which finds the tunnel as the last one left it, and stands in
        front of the connection again. A signal ends the waiting."""
        self._screen.state("waiting for the client service, which has ended; the tunnel may still work")
        deadline = time.monotonic() + COMEBACK
        while time.monotonic() < deadline:
            if select.select([self._signals], [], [], COMEBACK_INTERVAL)[0]:
                return False
            with suppress(ProblemError):
                self._client.reopen()
                found = self._client.call("attach", connection=self._connection)
                status = found.get("status", {})
                known = {
                    key: status.get(key) for key in ("connection", "state", "transport", "note", "problem")
                }
                self._show({"event": "state", **known, "attempt": 0})
                return True
        return False

    def _wait(self, *, keyboard: bool) -> None:
        """Until there is something. What the service says goes to the inbox; _Interrupted on a signal."""
        if self._screen.lost:
            self._stopped_by = signal.SIGHUP
            raise _Interrupted
        files: list[Any] = [self._client, self._signals, *([self._keyboard] if keyboard else [])]
        ready = select.select(files, [], [])[0]
        if self._client in ready:
            self._inbox.extend(self._client.take(0))
        if self._keyboard in ready:
            self._keyboard.fill()
        if numbers := self._signals.take():
            self._stopped_by = numbers[0]
            if signal.SIGHUP in numbers:
                self._screen.lose()
            raise _Interrupted

    # What the service says

    def _receive(self, message: Message) -> int | None:
        """The exit status when it was the last message."""
        if "id" in message:
            return self._answered(message)
        if self._connection is not None and message.get("connection") != self._connection:
            return None
        match message.get("event"):
            case "state":
                return self._state(message)
            case "prompt":
                self._prompt(message)
        return None

    def _answered(self, message: Message) -> int | None:
        number = message["id"]
        if number == self._details and "error" in message:
            return None  # it has ended just now: its state comes next
        self._over = self._over or is_refusal(message) or (number == self._request and "error" in message)
        found = result(message)
        if number == self._request:
            self._connection = str(found.get("connection"))
        elif number == self._details:
            self._screen.document({"event": "details", **found})
            self._screen.lines(*details_lines(found, time.time()))
            if self._background:
                return 0
            self._screen.hint("Ctrl-C disconnects.")
        return None

    def _state(self, state: Message) -> int | None:
        self._show(state)
        match state.get("state"):
            case "connected" if not self._was_connected:
                self._was_connected = True
                self._details = self._client.send("details", connection=state.get("connection"))
            case "failed" | "disconnected" as last:
                self._over = True
                self._screen.finish_line()
                if state.get("problem") is not None:
                    raise ProblemError(read_problem(state["problem"]))
                if last == "failed" or not self._was_connected:
                    raise ProblemError(_NOT_CONNECTED)
                return 0
        return None

    def _show(self, state: Message) -> None:
        self._screen.document(state)
        self._screen.state(state_line(state))

    # The end, when it comes from here

    def _end(self) -> int:
        """Disconnects and waits until everything is as it was; the exit status.

        Another SIGINT or SIGTERM leaves at once. ProblemError: "not-restored".
        """
        deadline = time.monotonic() + RESTORATION
        while not self._is_over():
            if self._connection is not None and not self._leaving:
                self._leaving = self._client.send("disconnect", connection=self._connection)
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProblemError(_NOT_RESTORED)
            files: list[Any] = [self._client, self._signals]
            ready = select.select(files, [], [], left)[0]
            if self._client in ready:
                self._inbox.extend(self._client.take(0))
            numbers = self._signals.take()
            if signal.SIGHUP in numbers:
                self._screen.lose()  # no reason to hurry: nobody is waiting
            if signal.SIGINT in numbers or signal.SIGTERM in numbers:
                return EXIT_SIGNAL + signal.SIGINT
        self._screen.finish_line()
        return 0 if self._was_connected else EXIT_SIGNAL + self._stopped_by

    def _is_over(self) -> bool:
        """Reads the inbox for the end of the connection."""
        while self._inbox:
            message = self._inbox.popleft()
            if message.get("id") == self._request or is_refusal(message):
                if "error" in message:
                    return True
                self._connection = str(result(message).get("connection"))
            elif self._leaving and message.get("id") == self._leaving:
                problem = read_problem(message["error"]) if "error" in message else None
                # It may have ended by itself meanwhile.
                if problem is not None and problem.code != "no-such-connection":
                    raise ProblemError(problem)
                return True
            elif message.get("event") == "state":
                self._show(message)
                # The signal may have come while this was on its way: there was a connection all the same.
                self._was_connected |= message.get("state") == "connected"
                if message.get("state") in ("disconnected", "failed"):
                    return True
        return False

    # Questions

    def _prompt(self, prompt: Message) -> None:
        # Imported here: a connection that needs no sign-in needs neither questions nor secrets.
        from lockgate.cli.person import AtTerminal, Nobody, OnStandardInput
        from lockgate.cli.questions import Person, answer

        person: Person = Nobody()
        if self._keyboard.is_terminal:
            person = AtTerminal(self._screen, self._read_line)
        elif self._password_stdin:
            person = OnStandardInput(self._read_line)
        prompt = {**prompt, "user": prompt.get("user") or self._user}
        about = {"connection": prompt.get("connection"), "prompt": prompt.get("prompt")}
        try:
            self._client.send("answer", fields=answer(prompt, person), **about)
        except _Superseded:
            self._screen.question("\n")
        except (_Interrupted, ProblemError):
            self._client.send("answer", cancel=True, **about)
            raise

    def _read_line(self, text: str, *, hidden: bool) -> bytes | None:
        with self._keyboard.hidden() if hidden else nullcontext():
            # Not before nothing is shown any more: some type quickly.
            self._screen.question(text)
            while not self._keyboard.has_line:
                self._wait(keyboard=True)
                if any(map(_ends_question, self._inbox)):
                    raise _Superseded
            return self._keyboard.take_line()


def _ends_question(message: Message) -> bool:
    return message.get("event") == "prompt" or message.get("state") in ("failed", "disconnected")


_NOT_CONNECTED = Problem(
    code="not-connected",
    summary="The connection was ended before it was up.",
    fix="Connect again when you want to.",
)
_NOT_RESTORED = Problem(
    code="not-restored",
    summary=f"The client service has not ended the connection within {RESTORATION:.0f} seconds.",
    fix="`lockgate status` shows what it does; without a service `lockgate client reset` undoes everything.",
)
