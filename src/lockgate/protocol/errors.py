"""The errors a protocol core raises.

    Exception
      PeerError    the other side broke the protocol: close, count, carry on
        UnsupportedError   or it wants what this side does not have, and cannot go on without
      UsageError   our own caller erred: a bug
      AnswerError  what a person typed does not fit the wire: say why and ask again

Parsers of outside bytes raise nothing but PeerError. No message ever holds bytes of a
password, cookie or key, so all may be logged.
"""


class PeerError(Exception):
    """The other side broke the protocol. The stream cannot be trusted any further: close it."""


class UnsupportedError(PeerError):
    """The other side wants something that is not built here. The text names it, for a person to read."""


class UsageError(RuntimeError):
    """The core was called out of turn or with a value that does not fit the wire."""


class AnswerError(ValueError):
    """What a person typed cannot be said to the other side. The text says why, without the value, for a
    person to read; nothing was sent and the question stands."""
