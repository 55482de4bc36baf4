"""Exact translation between frozen dataclasses and MessagePack maps.

The annotations of a dataclass are its wire shape: `U8` .. `U64`, `bool`, `Annotated[X, Length(n)]`
for `str`, `bytes`, `Secret` and `tuple[Y, ...]`, pairs, enums of text, other dataclasses, and
`X | None` of these. Decoding wants exactly the declared fields, each with its type, range and
limit, and raises PeerError; encoding checks the same and raises UsageError, so that nothing leaves
that the other end would refuse. Fields are written in the order of declaration and integers in
their shortest form, which makes the bytes those of serde.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

import msgpack

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.secret import Secret


@dataclasses.dataclass(frozen=True, slots=True)
class Bits:
    """Annotation of an unsigned integer: its width."""

    width: int


@dataclasses.dataclass(frozen=True, slots=True)
class Length:
    """Annotation of text (in UTF-8 bytes), bytes, secrets and lists: the longest allowed, or a
    closed set of lengths."""

    most: int
    exactly: tuple[int, ...] = ()

    def fits(self, length: int) -> bool:
        return length in self.exactly if self.exactly else length <= self.most


U8 = Annotated[int, Bits(8)]
U16 = Annotated[int, Bits(16)]
U32 = Annotated[int, Bits(32)]
U64 = Annotated[int, Bits(64)]


class _Mismatch(Exception):
    """A value does not have its declared shape; the message says which and how."""


T = TypeVar("T")
_Pack: TypeAlias = Callable[[Any], object]
_Unpack: TypeAlias = Callable[[object], Any]


def pack(message: object) -> dict[str, object]:
    """Fields of a dataclass as a map of plain values; UsageError if one does not fit."""
    try:
        return _Shape.of(type(message)).pack(message)
    except _Mismatch as error:
        raise UsageError(str(error)) from None


def unpack(cls: type[T], fields: object) -> T:
    """A `cls` from the map `fields`; PeerError unless it fits exactly."""
    try:
        return typing.cast(T, _Shape.of(cls).unpack(fields))
    except _Mismatch as error:
        raise PeerError(str(error)) from None


def dumps(value: object) -> bytes:
    """MessagePack bytes of plain values."""
    return typing.cast(bytes, msgpack.packb(value, use_bin_type=True))


def loads(data: bytes) -> object:
    """Plain values from exactly one MessagePack value; PeerError otherwise.

    Maps have text keys, each once. Memory stays in proportion to `data`: the decoder refuses
    declared lengths beyond it.
    """
    try:
        return typing.cast(
            object, msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_unique_keys)
        )
    except PeerError:
        raise
    except Exception as error:
        kind = type(error).__name__
    # Raised outside the handler: the decoder's own errors may quote the bytes.
    raise PeerError(f"not one well-formed MessagePack value ({kind})")


def _unique_keys(pairs: list[tuple[object, object]]) -> dict[object, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise PeerError("a map names a field twice")
    return result


class _Shape:
    """The compiled annotations of one dataclass."""

    _known: typing.ClassVar[dict[type, "_Shape"]] = {}

    def __init__(self, cls: type) -> None:
        self._cls = cls
        hints = typing.get_type_hints(cls, include_extras=True)
        self._fields: list[tuple[str, _Pack, _Unpack]] = []
        for field in dataclasses.fields(cls):
            self._fields.append((field.name, *_codec(hints[field.name], f"{cls.__name__}.{field.name}")))
        self._names = frozenset(name for name, _, _ in self._fields)

    @classmethod
    def of(cls, message: type) -> "_Shape":
        if message not in cls._known:
            cls._known[message] = cls(message)
        return cls._known[message]

    def pack(self, value: Any) -> dict[str, object]:
        if type(value) is not self._cls:
            raise _Mismatch(f"expected {self._cls.__name__}")
        return {name: to_plain(getattr(value, name)) for name, to_plain, _ in self._fields}

    def unpack(self, raw: object) -> Any:
        if type(raw) is not dict or raw.keys() != self._names:
            raise _Mismatch(f"{self._cls.__name__} does not have exactly its fields")
        try:
            return self._cls(**{name: from_plain(raw[name]) for name, _, from_plain in self._fields})
        except UsageError as error:  # a rule between fields, from __post_init__
            raise _Mismatch(str(error)) from None


def _codec(hint: Any, label: str) -> tuple[_Pack, _Unpack]:
    """How values of the annotation `hint` become plain values and back; `label` is for errors."""
    if get_origin(hint) is Annotated:
        kind, limit = get_args(hint)
        if isinstance(limit, Bits):
            return _both(_unsigned(limit, label))
        if kind is str:
            return _both(_text(limit, label))
        if kind is bytes:
            return _both(_octets(limit, label))
        if kind is Secret:
            octets = _octets(limit, label)
            return lambda value: octets(_of_secret(value, label)), lambda raw: Secret(octets(raw))
        return _many(kind, limit, label)
    if get_origin(hint) in (Union, types.UnionType):  # X | None
        inner, _ = get_args(hint)
        to_plain, from_plain = _codec(inner, label)
        return (
            lambda value: None if value is None else to_plain(value),
            lambda raw: None if raw is None else from_plain(raw),
        )
    if get_origin(hint) is tuple:  # a pair and the like
        return _fixed(get_args(hint), label)
    if hint is bool:
        return _both(_boolean(label))
    if issubclass(hint, StrEnum):
        return _choice(hint, label)
    shape = _Shape.of(hint)
    return shape.pack, shape.unpack


def _both(check: Callable[[object], Any]) -> tuple[_Pack, _Unpack]:
    return check, check


def _of_secret(value: object, label: str) -> bytes:
    if type(value) is not Secret:
        raise _Mismatch(f"{label} is not a secret")
    return value.reveal()


def _unsigned(limit: Bits, label: str) -> Callable[[object], int]:
    end = 1 << limit.width

    def check(value: object) -> int:
        if type(value) is not int or not 0 <= value < end:
            raise _Mismatch(f"{label} is not an unsigned number of {limit.width} bits")
        return value

    return check


def _boolean(label: str) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if type(value) is not bool:
            raise _Mismatch(f"{label} is neither true nor false")
        return value

    return check


def _text(limit: Length, label: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if type(value) is not str:
            raise _Mismatch(f"{label} is not text")
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            raise _Mismatch(f"{label} is not valid Unicode") from None
        if not limit.fits(length):
            raise _Mismatch(f"{label} is {length} bytes long")
        return value

    return check


def _octets(limit: Length, label: str) -> Callable[[object], bytes]:
    def check(value: object) -> bytes:
        if type(value) is not bytes:
            raise _Mismatch(f"{label} is not binary")
        if not limit.fits(len(value)):
            raise _Mismatch(f"{label} is {len(value)} bytes long")
        return value

    return check


def _many(kind: Any, limit: Length, label: str) -> tuple[_Pack, _Unpack]:
    item_to_plain, item_from_plain = _codec(get_args(kind)[0], label)

    def to_plain(value: object) -> object:
        if type(value) is not tuple or not limit.fits(len(value)):
            raise _Mismatch(f"{label} is not a tuple of at most {limit.most}")
        return [item_to_plain(item) for item in value]

    def from_plain(raw: object) -> Any:
        if type(raw) is not list or not limit.fits(len(raw)):
            raise _Mismatch(f"{label} is not a list of at most {limit.most}")
        return tuple(item_from_plain(item) for item in raw)

    return to_plain, from_plain


def _fixed(kinds: tuple[Any, ...], label: str) -> tuple[_Pack, _Unpack]:
    codecs = [_codec(kind, label) for kind in kinds]

    def to_plain(value: object) -> object:
        if type(value) is not tuple or len(value) != len(codecs):
            raise _Mismatch(f"{label} does not hold {len(codecs)} values")
        return [item_to_plain(item) for (item_to_plain, _), item in zip(codecs, value, strict=True)]

    def from_plain(raw: object) -> Any:
        if type(raw) is not list or len(raw) != len(codecs):
            raise _Mismatch(f"{label} does not hold {len(codecs)} values")
        return tuple(item_from_plain(item) for (_, item_from_plain), item in zip(codecs, raw, strict=True))

    return to_plain, from_plain


def _choice(kind: type[StrEnum], label: str) -> tuple[_Pack, _Unpack]:
    names = {member.value: member for member in kind}

    def to_plain(value: object) -> object:
        if type(value) is not kind:
            raise _Mismatch(f"{label} is not a {kind.__name__}")
        return value.value

    def from_plain(raw: object) -> Any:
        if type(raw) is not str or raw not in names:
            raise _Mismatch(f"{label} is not one of {', '.join(names)}")
        return names[raw]

    return to_plain, from_plain
