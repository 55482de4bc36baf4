"""The two errors a protocol core raises.

    Exception
      PeerError    the other side broke the protocol: close, count, carry on
      UsageError   our own caller erred: a bug

Parsers of outside bytes raise nothing but PeerError. Neither message ever holds bytes of a
password, cookie or key, so both may be logged.
"""


class PeerError(Exception):
    """The other side broke the protocol. The stream cannot be trusted any further: close it."""


class UsageError(RuntimeError):
    """The core was called out of turn or with a value that does not fit the wire."""
