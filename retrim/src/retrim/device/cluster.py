"""A cluster: cores of one kind that share a clock and a voltage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from retrim.device.checks import number, whole, words
from retrim.device.point import OperatingPoint
from retrim.device.power import PowerModel
from retrim.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Cores of one kind.

    Parameters
    ----------
    name : str
    cores : int
    points : tuple of OperatingPoint
        Rising in frequency.  Voltages need not rise: real tables have steps down.
    power : PowerModel, optional
        None where power is measured at each point, or unknown.
    macs_per_cycle : mapping of str to float
        Multiply-accumulates per cycle and core by precision, at best.
    sources : tuple of str
        Where the numbers are from.

    Raises
    ------
    DeviceError
        If points are missing or out of order, or a number is out of range.
    """

    name: str
    cores: int
    points: tuple[OperatingPoint, ...]
    power: PowerModel | None = None
    macs_per_cycle: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        words("a cluster's name", self.name)
        whole(f"cores of cluster {self.name!r}", self.cores, most=4096)
        if not self.points:
            raise DeviceError(f"cluster {self.name!r} must have an operating point, but has none")
        for slow, fast in zip(self.points, self.points[1:], strict=False):
            if not slow.mhz < fast.mhz:
                raise DeviceError(
                    f"operating points of cluster {self.name!r} must rise in frequency, not go from "
                    f"{slow.mhz:g} to {fast.mhz:g} MHz"
                )
        for precision, value in self.macs_per_cycle.items():
            number(f"macs_per_cycle of {precision} of cluster {self.name!r}", value, above=True, most=1e5)

    @property
    def top(self) -> OperatingPoint:
        """The fastest point."""
        return self.points[-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd in the table and accepted: a faster point with less voltage, or with less power."""
        found = []
        for slow, fast in zip(self.points, self.points[1:], strict=False):
            for word, unit, low, high in (
                ("voltage", "V", slow.volts, fast.volts),
                ("measured power", "mW", slow.milliwatts, fast.milliwatts),
            ):
                if low is not None and high is not None and high < low:
                    found.append(
                        f"cluster {self.name}: {word} falls from {low:g} to {high:g} {unit} between {slow.mhz:g} "
                        f"and {fast.mhz:g} MHz; the table is used as it is"
                    )
        return tuple(found)

    def point(self, mhz: float) -> OperatingPoint:
        """The operating point of a frequency.

        Raises
        ------
        DeviceError
            If the table has none; names the nearest ones.
        """
        for point in self.points:
            if abs(point.mhz - mhz) <= 1e-6 * point.mhz:
                return point
        near = sorted(self.points, key=lambda p: abs(p.mhz - mhz))[:2]
        words_ = " or ".join(f"{p.mhz:g}" for p in sorted(near, key=lambda p: p.mhz))
        raise DeviceError(
            f"a frequency must be an operating point of cluster {self.name!r}, not {mhz:g} MHz; the nearest: {words_}"
        )

    def busy_mw(self, mhz: float, cores: int = 1) -> float:
        """Milliwatts with so many busy cores.

        Raises
        ------
        DeviceError
            If the cluster has not so many, if power is unknown, or if it was
            measured for one core and more are asked for.
        """
        point = self.point(mhz)
        whole(f"busy cores of cluster {self.name!r}", cores, most=self.cores)
        if self.power is not None and point.volts is not None:
            return self.power.busy(point.mhz, point.volts, cores)
        if point.milliwatts is None:
            raise DeviceError(
                f"power of cluster {self.name!r} at {mhz:g} MHz must be known, but its profile has neither a model "
                "nor a measurement: choose a built-in device (`retrim device list`)"
            )
        if cores != 1:
            raise DeviceError(
                f"power of cluster {self.name!r} was measured with one busy core, so cores must be 1, not {cores}"
            )
        return point.milliwatts

    def idle_mw(self, mhz: float) -> float:
        """Milliwatts of a cluster that waits at a point: its static power, 0 where none is known."""
        point = self.point(mhz)
        return 0.0 if self.power is None or point.volts is None else self.power.idle(point.volts)

    def throughput(self, precision: str) -> float:
        """Multiply-accumulates per cycle of one core.

        Raises
        ------
        DeviceError
            If the profile does not know this precision.
        """
        if precision not in self.macs_per_cycle:
            known = ", ".join(self.macs_per_cycle) or "none"
            raise DeviceError(
                f"precision must be one whose throughput cluster {self.name!r} knows ({known}), not {precision!r}"
            )
        return self.macs_per_cycle[precision]

    def with_static(self, milliwatts: float) -> Cluster:
        """The same with so much static power at the fastest point, and in proportion to voltage elsewhere.

        Where power was measured at each point, the same is added to each of them while busy,
        and nothing is known of what it is while idle: refused.

        Raises
        ------
        DeviceError
            Without a power model.
        """
        if self.power is None or self.top.volts is None:
            raise DeviceError(
                f"static power can be set where power is modelled; that of cluster {self.name!r} was measured as a "
                "whole: leave static power out"
            )
        return replace(self, power=self.power.with_static(milliwatts, self.top.volts))
