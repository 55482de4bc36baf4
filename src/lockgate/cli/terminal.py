"""The terminal around `lockgate connect`: lines typed, hidden where they must be; what is shown; signals.

Nothing here waits by itself: files to `select` on come out, and what is ready is asked for.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lockgate.cli.output import print_json_line

MAX_TYPED = 4096  # bytes of a line; as many as a terminal collects (termios(3))

_CLEAR = "\r\x1b[K"  # to the start of the line, and erase it


class Signals:
    """SIGINT, SIGTERM and SIGHUP as something that `select` sees, instead of in the middle of anything."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # What the caller ignores stays ignored: nohup, and jobs in the background of a script.
        self._before = {
            number: signal.signal(number, lambda *_: None)
            for number in self.NUMBERS
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def take(self) -> list[int]:
        """Numbers of the signals since the last call."""
        with suppress(BlockingIOError):
            return [number for number in os.read(self._read, 64) if number in self.NUMBERS]
        return []


class Keyboard:
    """Standard input: a terminal with a person, or a pipe or file with lines."""

    def __init__(self) -> None:
        self._fd = 0
        self.is_terminal = os.isatty(self._fd)
        self._typed = bytearray()
        self._ended = False

    def fileno(self) -> int:
        return self._fd

    @property
    def has_line(self) -> bool:
        """`take_line` would give something without `fill`."""
        return self._ended or b"\n" in self._typed or len(self._typed) > MAX_TYPED

    def fill(self) -> None:
        """Reads once; for when the file is readable."""
        try:
            chunk = os.read(self._fd, MAX_TYPED)
        except OSError:
            chunk = b""  # the terminal is gone
        self._typed += chunk
        # At a terminal the next line may come after Ctrl-D; each question sees its own end.
        self._ended = not chunk

    def take_line(self) -> bytes | None:
        """The next line without its end; the last one of a file may have none. None: there is no more.

        ValueError: the line has more than MAX_TYPED bytes.
        """
        line, end, rest = bytes(self._typed).partition(b"\n")
        self._typed[:] = rest
        if not end and self.is_terminal:
            self._ended = False
        if len(line) > MAX_TYPED:
            raise ValueError("a line is too long")
        return line.removesuffix(b"\r") if line or end else None

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """What is typed is not shown within this block."""
        if not self.is_terminal:
            yield
            return
        try:
            before = termios.tcgetattr(self._fd)
            quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
            # Discards what was typed ahead: it would have been shown.
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, quiet)
        except termios.error:
            yield  # the terminal is gone; reading from it says so
            return
        try:
            yield
        finally:
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, before)


class Screen:
    """Standard output and, for questions, standard error.

    On a terminal the state is one line that changes; elsewhere each state is a line of its own. When
    writing fails, the reader has gone: `lost` becomes true and everything further goes nowhere.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]
        self._live = not as_json and 1 in self._terminals
        self._open_line = False  # the state line stands without a line end
        self._last = ""
        self.lost = False

    def state(self, text: str) -> None:
        """Shows what the connection does now."""
        if self._json or text == self._last:
            return
        self._last = text
        if self._live:
            self._write(sys.stdout, _CLEAR + text[: _width() - 1])
            self._open_line = True
        else:
            self._write(sys.stdout, text + "\n")

    def lines(self, *lines: str) -> None:
        """Shows lines that stay, unless JSON was asked for."""
        if not self._json:
            self.finish_line()
            self._write(sys.stdout, "\n".join(lines) + "\n")

    def hint(self, text: str) -> None:
        """A line for people only."""
        if self._live:
            self.lines(text)

    def document(self, document: object) -> None:
        """One JSON object on a line, if JSON was asked for."""
        if self._json:
            with self._watched():
                print_json_line(document)

    def question(self, text: str) -> None:
        """Text of a question, or what leads to it; on standard error, since it is no result."""
        if text:
            self.finish_line()
            self._write(sys.stderr, text)

    def finish_line(self) -> None:
        """Ends the live line: it stays as it is, and a next one begins below."""
        if self._open_line:
            self._open_line = False
            self._last = ""
            self._write(sys.stdout, "\n")

    def lose(self) -> None:
        """The terminal was closed: writing to it would fail, reading find an end."""
        self.lost = True
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in self._terminals:
            os.dup2(nowhere, fd)
        os.close(nowhere)

    def _write(self, stream: object, text: str) -> None:
        with self._watched():
            print(text, end="", flush=True, file=stream)  # type: ignore[call-overload]

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._terminals = [0, 1, 2]
            self.lose()


def _width() -> int:
    """Columns of the terminal. As shutil.get_terminal_size, which takes a while to import."""
    with suppress(KeyError, ValueError):
        return max(2, int(os.environ["COLUMNS"]))
    with suppress(OSError):
        return os.get_terminal_size(1).columns or 80
    return 80
