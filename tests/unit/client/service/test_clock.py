from __future__ import annotations

from dataclasses import dataclass

import pytest

from lockgate.client.service.clock import Clock, since_boot

DAY = 86400.0


@dataclass
class Machine:
    """Its clocks; `boot` is another one after a restart."""

    up: float = 5000.0
    wall: float = 1_700_000_000.0
    boot: str = "first"

    def clock(self) -> Clock:
        return Clock(lambda: self.up, lambda: self.wall, self.boot)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_setting_the_wall_clock_moves_no_moment(jump: float) -> None:
    machine = Machine()
    clock = machine.clock()
    kept = clock.keep(clock.now() + 3600)
    machine.wall += jump
    machine.up += 600
    assert clock.now() == 5600
    assert machine.clock().found(kept) - clock.now() == 3000  # the same for the next service


def test_a_moment_is_shown_by_the_wall_clock_as_it_is_now() -> None:
    machine = Machine()
    clock = machine.clock()
    moment = clock.now()
    machine.up, machine.wall = machine.up + 60, machine.wall + 60 + DAY
    assert clock.on_wall(moment) == 1_700_000_000.0 + DAY


def test_the_wall_clock_carries_a_moment_over_a_restart_of_the_machine() -> None:
    machine = Machine()
    kept = machine.clock().keep(machine.up + 3600)
    machine.boot, machine.up, machine.wall = "second", 30.0, machine.wall + 900
    assert machine.clock().found(kept) - machine.up == 2700
    machine.wall += DAY
    assert machine.clock().found(kept) < 0  # over, and no number that means something else


@pytest.mark.parametrize(
    "kept", [{}, {"boot": "first"}, {"boot": "other", "wall": None}, [], "x", {"boot": "first", "at": []}]
)
def test_anything_else_is_an_error(kept: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Machine().clock().found(kept)  # type: ignore[arg-type]


def test_the_machine_s_own_clock_counts_on() -> None:
    clock = Clock()
    assert 0 < clock.now() <= since_boot()
