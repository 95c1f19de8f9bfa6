"""The governor's rules over traces: what it keeps, and that it does not chatter."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.device import Governor, Level, Signals, decide, just_meeting
from retrim.device.governor import consider
from retrim.errors import DeviceError

LEVELS = just_meeting([1400, 1200, 1000, 800, 600, 400], 100.0).levels
GOVERNOR = Governor(levels=LEVELS, deadline_ms=100.0)
LAST = len(LEVELS) - 1

charges = st.floats(0, 1)
signals_ = st.builds(
    Signals,
    battery=st.none() | charges,
    freq_mhz=st.none() | st.floats(100, 2000),
    temp_c=st.none() | st.floats(-20, 110),
    latency_p99_ms=st.none() | st.floats(0, 300),
    queue=st.integers(0, 9),
)


def run(trace: list[Signals], current: int = 0, governor: Governor = GOVERNOR) -> list[int]:
    found = []
    for now in trace:
        current = decide(now, current, governor)
        found.append(current)
    return found


def test_each_level_has_its_share_of_the_battery() -> None:
    charges_ = [1.0, 0.84, 0.83, 0.66, 0.49, 0.33, 0.16, 0.0]
    assert run([Signals(battery=charge) for charge in charges_]) == [0, 0, 1, 2, 3, 4, 5, 5]
    uneven = replace(GOVERNOR, levels=LEVELS[:3], shares=(2.0, 1.0, 1.0))
    assert [uneven.by_battery(charge) for charge in (1.0, 0.51, 0.5, 0.26, 0.25, 0.0)] == [0, 0, 1, 1, 2, 2]


def test_a_slower_clock_takes_a_sparser_level_at_once() -> None:
    assert decide(Signals(freq_mhz=600), 0, GOVERNOR) == 4
    assert decide(Signals(freq_mhz=599), 0, GOVERNOR) == 4  # within the tolerance
    assert decide(Signals(freq_mhz=590), 0, GOVERNOR) == 5
    assert decide(Signals(freq_mhz=100), 0, GOVERNOR) == 5  # none meets the deadline: the sparsest


def test_a_clock_just_short_keeps_a_level_and_does_not_win_it() -> None:
    assert decide(Signals(freq_mhz=1396), 0, GOVERNOR) == 0
    assert decide(Signals(freq_mhz=1396), 1, GOVERNOR) == 1
    wavering = [Signals(freq_mhz=1400 - (10 if i % 2 else 4)) for i in range(20)]
    assert run(wavering)[1:] == [1] * 19


def test_up_goes_one_level_a_decision() -> None:
    assert run([Signals(freq_mhz=1400)] * 7, LAST) == [4, 3, 2, 1, 0, 0, 0]


def test_a_charge_near_a_threshold_does_not_chatter() -> None:
    """Charge that wavers by less than the margin about a threshold changes the level once."""
    wavering = [Signals(battery=5 / 6 + (0.008 if i % 2 else -0.008)) for i in range(50)]
    assert set(run(wavering)) == {1}
    assert run([Signals(battery=5 / 6 + 0.03)], 1) == [0]


def test_charging_reaches_every_level() -> None:
    rising = [Signals(battery=i / 200) for i in range(201)]
    found = run(rising, LAST)
    assert found[-1] == 0 and sorted(found, reverse=True) == found
    tiny = replace(GOVERNOR, shares=(0.001, 1.0, 1.0, 1.0, 1.0, 1.0))
    assert run([Signals(battery=1.0)], 1, tiny) == [0]


def test_heat() -> None:
    assert run([Signals(temp_c=90)] * 3) == [1, 2, 3]
    assert consider(Signals(temp_c=90), 0, GOVERNOR).reason == "hot, 90 °C"
    assert run([Signals(temp_c=80)] * 3, 3) == [3, 3, 3]
    assert run([Signals(temp_c=70)] * 3, 3) == [2, 1, 0]


def test_late_inferences_and_a_queue() -> None:
    assert decide(Signals(latency_p99_ms=101), 2, GOVERNOR) == 3
    assert decide(Signals(queue=5), 2, GOVERNOR) == 3
    assert decide(Signals(queue=3), 2, GOVERNOR) == 2
    assert decide(Signals(queue=2), 2, GOVERNOR) == 1


def test_a_level_that_was_left_for_being_late_is_not_taken_up_again() -> None:
    """Other work makes everything a quarter slower: level 0 takes 125 ms, level 1 107 ms, level 2 89 ms."""
    current, found = 0, []
    for _ in range(20):
        late = 1.25 * LEVELS[current].latency_ms(1400)
        current = decide(Signals(freq_mhz=1400, latency_p99_ms=late), current, GOVERNOR)
        found.append(current)
    assert found == [1, *[2] * 19]


def test_why() -> None:
    assert consider(Signals(battery=0.1, freq_mhz=1400), 0, GOVERNOR).reason == "battery at 10%"
    assert consider(Signals(freq_mhz=800), 0, GOVERNOR).reason == "clock at 800 MHz"
    assert consider(Signals(), 0, GOVERNOR).reason == "stay"
    assert consider(Signals(), 1, GOVERNOR).reason == "room for a denser level"
    assert consider(Signals(battery=5 / 6 + 0.01), 1, GOVERNOR).reason == "battery too near to the threshold"
    assert consider(Signals(temp_c=80), 1, GOVERNOR).reason == "not yet cool"


@settings(deadline=None)
@given(signals_, st.integers(0, LAST))
def test_a_level_always_and_at_most_one_up(now: Signals, current: int) -> None:
    found = decide(now, current, GOVERNOR)
    assert current - 1 <= found <= LAST and found >= 0
    assert decide(now, current, GOVERNOR) == found


@settings(deadline=None)
@given(signals_, st.integers(0, LAST))
def test_the_same_signals_settle(now: Signals, current: int) -> None:
    """Signals that stay lead to one level in as many decisions as there are levels, without a turn back."""
    trace = [current, *run([now] * (LAST + 2), current)]
    assert trace[-1] == trace[-2]
    steps = [b - a for a, b in itertools.pairwise(trace)]
    assert all(step >= 0 for step in steps) or all(step <= 0 for step in steps)


@settings(deadline=None)
@given(signals_, st.integers(0, LAST), charges)
def test_less_battery_never_means_a_denser_level(now: Signals, current: int, other: float) -> None:
    low, high = sorted((other, 1.0 if now.battery is None else now.battery))
    more = decide(replace(now, battery=high), current, GOVERNOR)
    assert decide(replace(now, battery=low), current, GOVERNOR) >= more


@settings(deadline=None)
@given(signals_, st.integers(0, LAST), st.floats(100, 2000))
def test_a_slower_clock_never_means_a_denser_level(now: Signals, current: int, other: float) -> None:
    slow, fast = sorted((other, 1400.0 if now.freq_mhz is None else now.freq_mhz))
    more = decide(replace(now, freq_mhz=fast), current, GOVERNOR)
    assert decide(replace(now, freq_mhz=slow), current, GOVERNOR) >= more


@settings(deadline=None)
@given(st.lists(st.floats(400, 1400), min_size=1, max_size=30), st.integers(0, LAST))
def test_the_deadline_holds_at_every_clock(clocks: list[float], current: int) -> None:
    for mhz in clocks:
        current = decide(Signals(freq_mhz=mhz), current, GOVERNOR)
        assert LEVELS[current].latency_ms(mhz) <= 100.0 * 1.0051


@settings(deadline=None)
@given(st.lists(st.floats(-0.004, 0.004), min_size=1, max_size=60), charges)
def test_noise_below_the_margin_moves_a_discharge_down_only(noise: list[float], start: float) -> None:
    charge = [min(1, max(0, start - i / 200 + e)) for i, e in enumerate(noise)]
    first = GOVERNOR.by_battery(charge[0])
    found = run([Signals(battery=c) for c in charge], first)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"battery": 1.2}, "battery must be a number of at least 0 and at most 1, not 1.2"),
        ({"battery": float("nan")}, "battery must be a number of at least 0 and at most 1, not nan"),
        ({"freq_mhz": 0}, "freq_mhz must be a number above 0 and at most 100000, not 0"),
        ({"temp_c": 900}, "temp_c must be a number of at least -60 and at most 200, not 900"),
        ({"queue": -1}, "queue must be a whole number from 0 to 1099511627776, not -1"),
    ],
)
def test_absurd_signals(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DeviceError) as error:
        Signals(**change)
    assert str(error.value) == sentence


def test_absurd_governors() -> None:
    with pytest.raises(DeviceError, match="a governor must have a level, but has none"):
        Governor(levels=(), deadline_ms=1)
    with pytest.raises(
        DeviceError, match=r"levels must fall in cycles, but '1400 MHz' has 1.4e[+]08 after '400 MHz'"
    ):
        Governor(levels=(LEVELS[-1], LEVELS[0]), deadline_ms=1)
    with pytest.raises(DeviceError, match="shares must be 6, one for each level, not 2"):
        replace(GOVERNOR, shares=(0.5, 0.5))
    with pytest.raises(DeviceError, match="shares must not all be zero"):
        Governor(levels=(Level(name="x", mhz=1, cycles=1),), deadline_ms=1, shares=(0.0,))
    with pytest.raises(DeviceError, match="cool_c must be a number of at least -60 and at most 85, not 90"):
        replace(GOVERNOR, cool_c=90)
    with pytest.raises(DeviceError, match="the level in use must be a whole number from 0 to 5, not 6"):
        decide(Signals(), 6, GOVERNOR)
