"""Discharge of a battery under a workload, for one policy.

Requests come one a period, and one is served at a time: an inference of latency L at busy power P,
then a wait at static power P0 until the next request is due.  Where L is longer than the period,
requests that arrive meanwhile are dropped.  The governor is asked again and again, as on a device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from retrim.device.battery import Battery
from retrim.device.checks import LEAST, number, whole
from retrim.device.cluster import Cluster
from retrim.device.governor import Governor, Signals, decide
from retrim.device.levels import Level

STEPS = 2000
"""How often, at least, the governor is asked on one battery."""
ROUNDING = 1e-6
"""Of an inference: what the last one may lack but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked of a device.

    Parameters
    ----------
    deadline_ms : float
        An inference that takes longer is late.
    period_ms : float, optional
        Between two requests; default the deadline.
    cores : int
        Busy during an inference.

    Raises
    ------
    DeviceError
        If a number is out of range.
    """

    deadline_ms: float
    period_ms: float | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        number("deadline_ms", self.deadline_ms, least=LEAST)
        if self.period_ms is not None:
            number("period_ms", self.period_ms, least=LEAST)
        whole("cores", self.cores, most=4096)

    @property
    def period(self) -> float:
        """Milliseconds between two requests."""
        return self.deadline_ms if self.period_ms is None else self.period_ms


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What runs as the battery empties.

    Parameters
    ----------
    name : str
    title : str
    levels : tuple of Level
        From the first to the last; one of them where nothing changes.
    shares : tuple of float
        Of the battery's energy, one for each level; empty for equal ones.
    """

    name: str
    title: str
    levels: tuple[Level, ...]
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one request costs at a level.

    Attributes
    ----------
    latency_ms : float
    cycle_ms : float
        Until the next request can be served.
    millijoules : float
        Inference and wait.
    dropped : float
        Requests that arrive meanwhile.
    late : bool
    """

    latency_ms: float
    cycle_ms: float
    millijoules: float
    dropped: float
    late: bool


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was done at a level."""

    level: str
    mhz: float
    inferences: int
    latency_ms: float
    millijoules_each: float
    accuracy: float | None
    late: bool
    hours: float
    dropped: float


@dataclass(frozen=True, kw_only=True)
class Discharge:
    """What one battery gave.

    Attributes
    ----------
    policy, title : str
    spent : tuple of Spent
        For each level in the order of the policy.
    trace : tuple of (float, float, int)
        Hours, charge left, index of the level, from full to empty.
    left_mwh : float
        Too little for another inference.
    """

    policy: str
    title: str
    spent: tuple[Spent, ...]
    trace: tuple[tuple[float, float, int], ...]
    used_mwh: float
    left_mwh: float

    @property
    def inferences(self) -> int:
        """All, late ones too."""
        return sum(part.inferences for part in self.spent)

    @property
    def missed(self) -> int:
        """Late inferences."""
        return sum(part.inferences for part in self.spent if part.late)

    @property
    def hours(self) -> float:
        """Until it was empty."""
        return sum(part.hours for part in self.spent)

    @property
    def work(self) -> float | None:
        """Inferences in time, each weighted by its level's accuracy; None where one is unknown."""
        found = 0.0
        for part in self.spent:
            if part.inferences and not part.late:
                if part.accuracy is None:
                    return None
                found += part.inferences * part.accuracy
        return found

    @property
    def accuracy(self) -> float | None:
        """Mean over all inferences, late ones too; None where one is unknown."""
        total = 0.0
        for part in self.spent:
            if part.inferences:
                if part.accuracy is None:
                    return None
                total += part.inferences * part.accuracy
        return total / self.inferences if self.inferences else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "policy": self.policy,
            "title": self.title,
            "inferences": self.inferences,
            "missed": self.missed,
            "dropped": sum(part.dropped for part in self.spent),
            "hours": self.hours,
            "energy_mwh": self.used_mwh,
            "accuracy": self.accuracy,
            "accuracy_weighted_work": self.work,
            "levels": [asdict(part) for part in self.spent],
            "trace": [list(point) for point in self.trace],
        }


def cost(level: Level, cluster: Cluster, workload: Workload) -> Cost:
    """What one request costs at a level.

    Raises
    ------
    DeviceError
        If the cluster has no such operating point, or its power is unknown.
    """
    latency = level.latency_ms()
    cycle = max(latency, workload.period)
    busy, idle = cluster.busy_mw(level.mhz, workload.cores), cluster.idle_mw(level.mhz)
    return Cost(
        latency_ms=latency,
        cycle_ms=cycle,
        millijoules=(busy * latency + idle * (cycle - latency)) / 1000,
        dropped=cycle / workload.period - 1,
        late=not level.meets(workload.deadline_ms),
    )


def discharge(
    policy: Policy, cluster: Cluster, battery: Battery, workload: Workload, *, steps: int = STEPS
) -> Discharge:
    """Empty a full battery.

    Parameters
    ----------
    policy : Policy
    cluster : Cluster
        Its operating points must have the frequencies of the policy's levels.
    battery : Battery
    workload : Workload
    steps : int
        The governor is asked anew after each `steps`-th part of the battery, or after each inference
        where one takes more.

    Returns
    -------
    Discharge

    Raises
    ------
    DeviceError
        If an operating point is missing, or power is unknown.
    """
    whole("steps", steps)
    # what is tested here is energy: clock, heat and load leave the governor alone
    governor = Governor(
        levels=_sinking(policy.levels), deadline_ms=workload.deadline_ms, shares=policy.shares
    )
    costs = [cost(level, cluster, workload) for level in policy.levels]
    full = battery.millijoules
    counts = [0] * len(costs)
    hours, current = 0.0, 0
    trace = [(0.0, 1.0, 0)]
    while True:
        left = full - sum(count * price.millijoules for count, price in zip(counts, costs, strict=True))
        current = decide(Signals(battery=min(1.0, max(0.0, left / full))), current, governor)
        price = costs[current]
        many = min(int(left / price.millijoules + ROUNDING), max(1, int(full / steps / price.millijoules)))
        if many < 1:
            break
        trace.append((hours, left / full, current))
        counts[current] += many
        hours += many * price.cycle_ms / 3.6e6
    trace.append((hours, max(0.0, left / full), current))
    spent = tuple(
        _spent(level, price, count) for level, price, count in zip(policy.levels, costs, counts, strict=True)
    )
    per_mwh = 3600 * battery.efficiency
    return Discharge(
        policy=policy.name,
        title=policy.title,
        spent=spent,
        trace=tuple(trace),
        used_mwh=(full - left) / per_mwh,
        left_mwh=max(0.0, left) / per_mwh,
    )


def _spent(level: Level, price: Cost, count: int) -> Spent:
    return Spent(
        level=level.name,
        mhz=level.mhz,
        inferences=count,
        latency_ms=price.latency_ms,
        millijoules_each=price.millijoules,
        accuracy=level.accuracy,
        late=price.late,
        hours=count * price.cycle_ms / 3.6e6,
        dropped=count * price.dropped,
    )


def _sinking(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The levels with cycles that a governor accepts: it sees charge alone here."""
    most = float("inf")
    found = []
    for level in levels:
        most = min(most, level.cycles)
        found.append(Level(name=level.name, mhz=level.mhz, cycles=most))
    return tuple(found)
