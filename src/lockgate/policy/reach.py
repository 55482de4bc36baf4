"""What two rule sets let through differently.

Exact, and not by trying addresses: between the borders that rules draw (of networks, ports, protocols)
a verdict does not change, so one packet stands for each cell. Only cells that a rule covers which one set
has and the other has not, or has elsewhere, can differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from lockgate.model.access_rule import ANY_PORT, CompiledRule, Network, RuleSet
from lockgate.policy import access

MAX_STEPS = 5_000_000
"""Rules looked at for one comparison, some seconds. More are thousands of overlapping rules; then the result says so."""
OTHER_PROTOCOL = 253  # for experiments (RFC 3692): stands for all that no rule names


@dataclass(frozen=True, slots=True)
class Difference:
    """Sentences about destinations, one per rule that decided. complete: every cell was looked at."""

    lost: tuple[str, ...]
    gained: tuple[str, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Area:
    """A compiled rule as numbers."""

    entry: CompiledRule
    version: int
    first: int
    last: int

    @classmethod
    def of(cls, entry: CompiledRule) -> _Area:
        first = int.from_bytes(entry.rule.address)
        bits = len(entry.rule.address) * 8
        return cls(entry, 4 if bits == 32 else 6, first, first + (1 << (bits - entry.rule.prefix)) - 1)

    def meets(self, other: _Area) -> bool:
        one, two = self.entry.rule, other.entry.rule
        return (
            self.version == other.version
            and self.first <= other.last
            and other.first <= self.last
            and (one.protocol is None or two.protocol is None or one.protocol == two.protocol)
            and one.port_low <= two.port_high
            and two.port_low <= one.port_high
        )

    def takes(self, protocol: int, port: int | None) -> bool:
        rule = self.entry.rule
        if rule.protocol not in (None, protocol):
            return False
        if (rule.port_low, rule.port_high) == ANY_PORT:
            return True
        return port is not None and rule.port_low <= port <= rule.port_high


def difference(old: RuleSet, new: RuleSet) -> Difference:
    """What the new set lets through less and more."""
    if old.rules == new.rules and old.reserved == new.reserved:
        return Difference((), (), True)
    before, after = [_Area.of(each) for each in old.compiled], [_Area.of(each) for each in new.compiled]
    lost: dict[CompiledRule, str] = {}
    gained: dict[CompiledRule, str] = {}
    steps = 0
    for area in _changed(old, new, before, after):
        mine = [each for each in before if each.meets(area)]
        theirs = [each for each in after if each.meets(area)]
        borders: list[_Area | _Span] = [
            *mine,
            *theirs,
            *_within(area, old.reserved),
            *_within(area, new.reserved),
        ]
        for address in _starts(area.first, area.last, [(each.first, each.last) for each in borders]):
            was_near = _at(mine, old.reserved, address)
            now_near = _at(theirs, new.reserved, address)
            steps += len(borders)
            for protocol, port in _cells(area, [*was_near, *now_near]):
                steps += len(was_near) + len(now_near)
                was, now = _judge(was_near, protocol, port), _judge(now_near, protocol, port)
                if was is not None and was.rule.allow and not (now and now.rule.allow):
                    lost.setdefault(was, _sentence(was, now, area.version, address, protocol, port))
                elif now is not None and now.rule.allow and not (was and was.rule.allow):
                    gained.setdefault(now, _sentence(now, was, area.version, address, protocol, port))
            if steps > MAX_STEPS:
                return Difference(tuple(lost.values()), tuple(gained.values()), False)
    return Difference(tuple(lost.values()), tuple(gained.values()), True)


def _changed(old: RuleSet, new: RuleSet, before: Sequence[_Area], after: Sequence[_Area]) -> Iterator[_Area]:
    """The areas of rules between the sets' common beginning and common end."""
    if old.reserved != new.reserved:
        yield from before
        yield from after
        return
    start = 0
    shorter = min(len(before), len(after))
    while start < shorter and old.compiled[start].rule == new.compiled[start].rule:
        start += 1
    end = 0
    while end < shorter - start and old.compiled[-1 - end].rule == new.compiled[-1 - end].rule:
        end += 1
    yield from before[start : len(before) - end]
    yield from after[start : len(after) - end]


def _cells(area: _Area, near: Sequence[_Area]) -> Iterator[tuple[int, int | None]]:
    """Protocol and port of one packet for each cell of the area at an address. near: the rules that cover it."""
    rule = area.entry.rule
    named = {each.entry.rule.protocol for each in near}
    protocols = (
        [rule.protocol]
        if rule.protocol is not None
        else [*sorted(number for number in named if number is not None), OTHER_PROTOCOL]
    )
    spans = [(each.entry.rule.port_low, each.entry.rule.port_high) for each in near]
    for protocol in protocols:
        if protocol not in access.WITH_PORTS:
            yield protocol, None
            continue
        for port in _starts(rule.port_low, rule.port_high, spans):
            yield protocol, port


def _starts(first: int, last: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Where the cells of first .. last begin, when every span draws a border at both its ends."""
    borders = {first}
    for low, high in spans:
        borders.update(border for border in (low, high + 1) if first <= border <= last)
    return sorted(borders)


def _within(area: _Area, networks: Sequence[Network]) -> list[_Span]:
    return [
        _Span(int(network.network_address), int(network.broadcast_address))
        for network in networks
        if network.version == area.version
    ]


def _at(areas: Sequence[_Area], reserved: Sequence[Network], address: int) -> list[_Area]:
    """The rules that count for an address, in order."""
    covering = [each for each in areas if each.first <= address <= each.last]
    if covering and any(span.first <= address <= span.last for span in _within(covering[0], reserved)):
        return [each for each in covering if each.entry.rule.reserved]
    return covering


def _judge(areas: Sequence[_Area], protocol: int, port: int | None) -> CompiledRule | None:
    """The rule that decides, as `access.explain` finds it. areas: those of the address."""
    return next((each.entry for each in areas if each.takes(protocol, port)), None)


def _sentence(
    allowed_by: CompiledRule,
    other: CompiledRule | None,
    version: int,
    address: int,
    protocol: int,
    port: int | None,
) -> str:
    shown = ip_network((address, 32 if version == 4 else 128)).network_address
    packet = f"{shown} {access.protocol_name(protocol)}{'' if port is None else f' port {port}'}"
    refusal = "no rule" if other is None else access.describe(other)
    return f"{access.describe(allowed_by)}, for example {packet}; without it {refusal} decides"
