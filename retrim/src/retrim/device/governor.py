"""The governor: which level to run, from what is known of battery, clock, temperature and load.

A pure function with hysteresis: what it says depends on the signals and on the level in use alone.
It goes down (to sparser levels) at once, and up one level a decision, and only where every signal
leaves room.  The rules: docs/retrim/device.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from retrim.device.checks import LEAST, number, whole
from retrim.device.levels import Level
from retrim.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What a governor knows; None where nobody can tell.

    Parameters
    ----------
    battery : float, optional
        Charge left, 0 to 1.
    freq_mhz : float, optional
        Of the clock that the model runs on.
    temp_c : float, optional
    latency_p99_ms : float, optional
        Of recent inferences at the level in use.
    queue : int
        Requests that wait.

    Raises
    ------
    DeviceError
        If one of them is absurd.
    """

    battery: float | None = None
    freq_mhz: float | None = None
    temp_c: float | None = None
    latency_p99_ms: float | None = None
    queue: int = 0

    def __post_init__(self) -> None:
        if self.battery is not None:
            number("battery", self.battery, most=1)
        if self.freq_mhz is not None:
            number("freq_mhz", self.freq_mhz, above=True, most=1e5)
        if self.temp_c is not None:
            number("temp_c", self.temp_c, least=-60, most=200)
        if self.latency_p99_ms is not None:
            number("latency_p99_ms", self.latency_p99_ms)
        whole("queue", self.queue, least=0)


@dataclass(frozen=True, kw_only=True)
class Governor:
    """Levels and the limits to keep.

    Parameters
    ----------
    levels : tuple of Level
        From the densest to the sparsest, each of fewer cycles than the one before, or as many.
    deadline_ms : float
    shares : tuple of float, optional
        Of the battery's energy that each level may use; default equal ones.
    battery_margin : float
        Charge above a threshold that must be there before a level is left upwards; at most half of
        the denser level's share.
    clock_tolerance : float
        A clock this far (relative) below what a level needs does not yet make it too slow.
    hot_c, cool_c : float
        One level down at `hot_c` or above; none up above `cool_c`.
    queue_most : int
        One level down where more requests wait; none up where more than half of them do.

    Raises
    ------
    DeviceError
        If levels are missing or out of order, or a limit is absurd.
    """

    levels: tuple[Level, ...]
    deadline_ms: float
    shares: tuple[float, ...] = ()
    battery_margin: float = 0.02
    clock_tolerance: float = 0.005
    hot_c: float = 85.0
    cool_c: float = 75.0
    queue_most: int = 4

    def __post_init__(self) -> None:
        if not self.levels:
            raise DeviceError("a governor must have a level, but has none")
        for one, other in zip(self.levels, self.levels[1:], strict=False):
            if other.cycles > one.cycles:
                raise DeviceError(
                    f"levels must fall in cycles, but {other.name!r} has {other.cycles:g} after {one.name!r} with "
                    f"{one.cycles:g}"
                )
        number("deadline_ms", self.deadline_ms, least=LEAST)
        number("battery_margin", self.battery_margin, most=0.5)
        number("clock_tolerance", self.clock_tolerance, most=0.5)
        number("hot_c", self.hot_c, least=-60, most=200)
        number("cool_c", self.cool_c, least=-60, most=self.hot_c)
        whole("queue_most", self.queue_most)
        object.__setattr__(self, "shares", shares_of(self.shares, len(self.levels)))

    def by_battery(self, charge: float) -> int:
        """The level whose turn it is at a charge: each has its share of the energy."""
        threshold = 1.0
        for index, share in enumerate(self.shares[:-1]):
            threshold -= share
            if charge > threshold:
                return index
        return len(self.levels) - 1

    def by_clock(self, mhz: float) -> int:
        """The densest level that meets the deadline at a clock; the sparsest where none does."""
        for index, level in enumerate(self.levels):
            if level.meets(self.deadline_ms, mhz):
                return index
        return len(self.levels) - 1


@dataclass(frozen=True)
class Decision:
    """A level, by its index, and the reason in words."""

    level: int
    reason: str


def decide(signals: Signals, current: int, governor: Governor) -> int:
    """The level to run from now on.

    Parameters
    ----------
    signals : Signals
    current : int
        Index of the level in use.
    governor : Governor

    Returns
    -------
    int
        Index of a level, 0 the densest.

    Raises
    ------
    DeviceError
        If `current` is no level's index.
    """
    return consider(signals, current, governor).level


def consider(signals: Signals, current: int, governor: Governor) -> Decision:
    """As `decide`, with the reason."""
    whole("the level in use", current, least=0, most=len(governor.levels) - 1)
    wanted = max(_wishes(signals, current, governor), key=lambda decision: decision.level)
    if wanted.level > current:
        return wanted
    if wanted.level == current:
        return Decision(current, "stay")
    blocked = _blocked(signals, current, governor)
    return Decision(current, blocked) if blocked else Decision(current - 1, "room for a denser level")


def _wishes(signals: Signals, current: int, governor: Governor) -> list[Decision]:
    """The densest level that each signal allows."""
    found = [Decision(0, "nothing known")]
    if signals.battery is not None:
        found.append(Decision(governor.by_battery(signals.battery), f"battery at {signals.battery:.0%}"))
    if signals.freq_mhz is not None:
        reason = f"clock at {signals.freq_mhz:g} MHz"
        found.append(Decision(governor.by_clock(_tolerated(signals.freq_mhz, governor)), reason))
    one_down = min(current + 1, len(governor.levels) - 1)
    if signals.temp_c is not None and signals.temp_c >= governor.hot_c:
        found.append(Decision(one_down, f"hot, {signals.temp_c:.0f} °C"))
    late = signals.latency_p99_ms
    if late is not None and late > governor.deadline_ms * (1 + governor.clock_tolerance):
        found.append(Decision(one_down, f"p99 latency {late:.4g} ms over {governor.deadline_ms:g} ms"))
    if signals.queue > governor.queue_most:
        found.append(Decision(one_down, f"{signals.queue} requests wait"))
    return found


def _blocked(signals: Signals, current: int, governor: Governor) -> str | None:
    """Why a denser level must wait; None where it may come."""
    up = current - 1
    battery = signals.battery
    # a level of a small share is reached too
    margin = min(governor.battery_margin, governor.shares[up] / 2)
    if battery is not None and governor.by_battery(battery - margin) > up:
        return "battery too near to the threshold"
    if signals.freq_mhz is not None and governor.by_clock(signals.freq_mhz) > up:
        return "clock too slow for a denser level"
    if signals.temp_c is not None and signals.temp_c > governor.cool_c:
        return "not yet cool"
    if signals.latency_p99_ms is not None:
        # with what it costs beyond the cycles it has here: other work, waiting
        ratio = governor.levels[up].cycles / governor.levels[current].cycles
        if signals.latency_p99_ms * ratio > governor.deadline_ms:
            return "a denser level would be late"
    if 2 * signals.queue > governor.queue_most:
        return "requests wait"
    return None


def _tolerated(mhz: float, governor: Governor) -> float:
    return mhz / (1 - governor.clock_tolerance)


def shares_of(shares: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Shares that add up to 1; equal ones where none are given.

    Raises
    ------
    DeviceError
        If there are not so many, or one is negative, or all are zero.
    """
    if not shares:
        return (1.0 / count,) * count
    if len(shares) != count:
        raise DeviceError(f"shares must be {count}, one for each level, not {len(shares)}")
    for share in shares:
        number("a share", share)
    total = sum(shares)
    if not total > 0:
        raise DeviceError("shares must not all be zero")
    return tuple(share / total for share in shares)
