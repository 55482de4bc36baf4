"""A value that must not be seen: passwords, cookies, key material."""

import hmac
from typing import NoReturn, Self


class Secret:
    """Bytes that are not printed, formatted, serialised or compared in variable time.

    `repr` is a fixed text, so that the repr of a message that carries a secret stays harmless;
    `str`, formatting and pickling raise TypeError, because they are always a mistake.
    A Secret is false when it is empty.
    """

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # a hash would compare by table look-up

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._value = bytes(value)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """The UTF-8 bytes of `text`."""
        return cls(text.encode())

    def reveal(self) -> bytes:
        """The bytes. Call it in the one place that needs them."""
        return self._value

    def reveal_text(self) -> str:
        """The bytes as UTF-8 text; ValueError (without the bytes) if they are not UTF-8."""
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            pass
        # Raised outside the handler: a UnicodeDecodeError carries the bytes, also as __context__.
        raise ValueError("secret is not UTF-8 text")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "<secret>"

    def __str__(self) -> NoReturn:
        raise TypeError("a Secret is not text; use reveal_text() where the value is needed")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a Secret is not formatted; use reveal_text() where the value is needed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied")
