"""`.pulsepreconfig`: the text form in which a client gets machine settings and connections.

    schema version {
      version: "1"
    }

    machine settings {
      server-id: "0241ML82AOPRD1VR"
    }

    ive "8211f09f-6674-4bdb-a44a-e6fa8b7402eb" {
      uri: "10.64.78.34"
    }

One block for the schema, one for the machine, then one for each connection, headed by its kind and GUID.
Keys and kinds that mean nothing here are kept, in their order. The guides show neither comments nor
escapes: there are no comments, and a quote inside a value is written with a backslash, which stands for
itself before anything else.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA = "schema version"
MACHINE = "machine settings"
VPN = "ive"
WIRED_OR_WIRELESS = "8021x"

SCHEMA_VERSION = "1"
"""The only version there is."""

MAX_TEXT = 1 << 20
"""Characters of a file; 200 connections of all known keys have about 200,000."""

MAX_BLOCKS = 502
"""Two, and the connections of one set."""

MAX_ENTRIES = 256
"""Keys of one block; files in the field have at most 30."""

MAX_KEY = 64
MAX_VALUE = 8192
"""Characters; the longest is a list of 32 URLs."""

MAX_VERSION = 1 << 31

_HEAD = re.compile(r'([a-z0-9]+(?: [a-z0-9]+)*)[ \t]*(?:"([^"]*)"[ \t]*)?\{')
_ENTRY = re.compile(r'([A-Za-z0-9][A-Za-z0-9_.-]*)[ \t]*:[ \t]*"(.*)"')
_KIND = re.compile(r"[a-z0-9]+(?: [a-z0-9]+)*")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_GUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_QUOTED = re.compile(r'\\(["\\])')

_SWITCHES = frozenset(
    [
        "allow-save",
        "user-connection",
        "splashscreen-display",
        "dynamic-trust",
        "dynamic-connection",
        "wireless-suppression",
        "lock-down",
        "connection-lock-down",
        "factory-default",
        "connection-policy-override",
        "use-for-secure-meetings",
        "use-for-connect",
        "client-certificate-location-system",
        "non-broadcast-ssid",
        "captive-portal-detection",
        "embedded-browser-saml",
        "enable-browser",
        "embedded-cef-browser-saml",
        "FIPSClient",
        "clear-smart-card-pin-cache",
        "block-traffic-on-vpn-disconnect",
        "this-server",
        "uri-list-randomize",
        "uri-list-use-last-connected",
    ]
)


class PreconfigError(ValueError):
    """The text is no such file. `line` counts from 1; `reason` is for a person to read."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `guid` is what stands in quotes behind the kind, empty for schema and machine."""

    kind: str
    guid: str = ""
    entries: tuple[tuple[str, str], ...] = ()

    def get(self, key: str, default: str = "") -> str:
        """The value of a key."""
        for name, value in self.entries:
            if name == key:
                return value
        return default

    def flag(self, key: str, default: bool) -> bool:
        """A key that is "true" or "false"."""
        return self.get(key, "true" if default else "false") == "true"


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file: the schema, the machine settings and the connections in their order."""

    schema: Block
    machine: Block
    connections: tuple[Block, ...] = ()

    @property
    def server_id(self) -> str:
        """Identity of the server that the client is bound to by this."""
        return self.machine.get("server-id")

    @property
    def version(self) -> int:
        """Counts the changes of the configuration; 0 where it is not told."""
        return int(self.machine.get("version", "0"))

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (self.schema, self.machine, *self.connections)


def document(machine: Iterable[tuple[str, str]], connections: Iterable[Block] = ()) -> Document:
    """A document of our own making. PreconfigError, with line 0, when it could not be read again."""
    made = Document(
        Block(SCHEMA, entries=(("version", SCHEMA_VERSION),)),
        Block(MACHINE, entries=tuple(machine)),
        tuple(connections),
    )
    serialize(made)
    return made


# -- reading -----------------------------------------------------------------------------------------


def read(data: bytes) -> Document:
    """The document in a file's bytes: UTF-8, line ends of any system. PreconfigError otherwise."""
    if len(data) > 4 * MAX_TEXT:
        raise PreconfigError(1, f"the file has more than {MAX_TEXT} characters")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PreconfigError(line, "the file is not UTF-8 text") from None
    return parse(text)


def parse(text: str) -> Document:
    """The document in a text. PreconfigError with the line where the text stops being one."""
    if len(text) > MAX_TEXT:
        raise PreconfigError(1, f"the file has more than {MAX_TEXT} characters")
    blocks: list[tuple[int, Block]] = []
    reader = _Lines(text)
    while (head := reader.next_filled()) is not None:
        number, line = head
        if len(blocks) == MAX_BLOCKS:
            raise PreconfigError(number, f"there are more than {MAX_BLOCKS} blocks")
        blocks.append((number, _block(reader, number, line)))
    return _assemble(blocks, reader.number)


class _Lines:
    """Lines without the blanks around them, numbered from 1."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self.number = 0

    def next_filled(self) -> tuple[int, str] | None:
        while self.number < len(self._lines):
            line = self._lines[self.number].removesuffix("\r").strip(" \t")
            self.number += 1
            if line:
                return self.number, line
        return None


def _block(reader: _Lines, start: int, line: str) -> Block:
    head = _HEAD.fullmatch(line)
    if head is None:
        raise PreconfigError(start, 'a block begins here, like: ive "<guid>" {')
    kind, guid = head[1], head[2] or ""
    if len(kind) > MAX_KEY:
        raise PreconfigError(start, "the kind of the block is too long")
    if (reason := _wrong_head(kind, guid)) is not None:
        raise PreconfigError(start, reason)
    entries: dict[str, str] = {}
    while (found := reader.next_filled()) is not None:
        number, line = found
        if line == "}":
            block = Block(kind, guid, tuple(entries.items()))
            if guid and block.get("guid", guid) != guid:
                raise PreconfigError(start, "the block's guid is not the one in its head")
            return block
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise PreconfigError(number, 'a line inside a block is key: "value", or } at its end')
        key, value = entry[1], _unquoted(entry[2], number)
        if key in entries:
            raise PreconfigError(number, f"{key} stands here for the second time")
        if len(entries) == MAX_ENTRIES:
            raise PreconfigError(number, f"the block has more than {MAX_ENTRIES} lines")
        if (reason := _wrong_entry(key, value)) is not None:
            raise PreconfigError(number, reason)
        entries[key] = value
    raise PreconfigError(start, f"the block {kind} has no }} at its end")


def _assemble(blocks: list[tuple[int, Block]], last_line: int) -> Document:
    if not blocks or blocks[0][1].kind != SCHEMA:
        raise PreconfigError(blocks[0][0] if blocks else 1, f"the file begins with the block {SCHEMA}")
    found: dict[str, Block] = {}
    connections: dict[str, Block] = {}
    for number, block in blocks:
        if block.guid:
            if block.guid in connections:
                raise PreconfigError(number, "another connection has the same guid")
            connections[block.guid] = block
        elif block.kind in found:
            raise PreconfigError(number, f"the block {block.kind} stands here for the second time")
        else:
            found[block.kind] = block
    if found[SCHEMA].get("version") != SCHEMA_VERSION:
        raise PreconfigError(blocks[0][0], f'the schema version is not "{SCHEMA_VERSION}"')
    if MACHINE not in found:
        raise PreconfigError(last_line, f"the block {MACHINE} is missing")
    return Document(found[SCHEMA], found[MACHINE], tuple(connections.values()))


def _wrong_head(kind: str, guid: str) -> str | None:
    if kind in (SCHEMA, MACHINE):
        return f"the block {kind} has no guid" if guid else None
    if not guid:
        return f'the block {kind} needs a guid, like: {kind} "<guid>" {{'
    return None if _GUID.fullmatch(guid) else "the guid is not one"


def _wrong_entry(key: str, value: str) -> str | None:
    if len(key) > MAX_KEY or len(value) > MAX_VALUE:
        return "the line is too long"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in value):
        return f"{key} holds characters that cannot be printed"
    if key in _SWITCHES and value not in ("true", "false"):
        return f'{key} is "true" or "false"'
    if key == "version" and not (re.fullmatch("[0-9]{1,10}", value) and int(value) <= MAX_VERSION):
        return "version is a whole number"
    return None


def _unquoted(text: str, number: int) -> str:
    """What stands between the quotes of a value."""
    if re.search(r'(?<!\\)(?:\\\\)*"', text):
        raise PreconfigError(number, 'a quote inside a value is written \\"')
    return _QUOTED.sub(r"\1", text)


# -- writing -----------------------------------------------------------------------------------------


def serialize(document: Document) -> str:
    """The text, in the form of the guides: two blanks before a key, a free line between blocks.

    PreconfigError, with line 0, for a document that `parse` would refuse.
    """
    parts = []
    for block in document.blocks:
        reason = _wrong_head(block.kind, block.guid)
        if reason is None and not _KIND.fullmatch(block.kind):
            reason = "the kind of a block is lower-case words"
        for key, value in block.entries:
            reason = reason or (None if _KEY.fullmatch(key) else f"{key!r} is no key")
            reason = reason or _wrong_entry(key, value)
        if reason is not None:
            raise PreconfigError(0, reason)
        head = f'{block.kind} "{block.guid}" {{' if block.guid else f"{block.kind} {{"
        lines = [f'  {key}: "{_quoted(value)}"' for key, value in block.entries]
        parts.append("\n".join([head, *lines, "}"]) + "\n")
    text = "\n".join(parts)
    try:
        again = parse(text)
    except PreconfigError as error:
        raise PreconfigError(0, error.reason) from None
    if again != document:
        raise PreconfigError(0, "the document is not one that can be written")
    return text


def _quoted(value: str) -> str:
    """The inverse of `_unquoted`: a backslash is doubled only where it would be taken for an escape, so that
    `DOMAIN\\user` stays as files in the field have it."""
    out = []
    for at, character in enumerate(value):
        if character == '"' or (character == "\\" and value[at + 1 : at + 2] in ("", '"', "\\")):
            out.append("\\")
        out.append(character)
    return "".join(out)
