"""Five policies on one battery, and how the comparison depends on what nobody measured.

(a) dense at the top operating point; (b) the backbone there; (c) the top level there; (d) DVFS with one
model; (e) DVFS with levels.  (d) and (e) share the battery's energy between operating points.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from retrim.device.battery import Battery
from retrim.device.cluster import Cluster
from retrim.device.discharge import STEPS, Discharge, Policy, Workload, cost, discharge
from retrim.device.levels import LevelTable, just_meeting
from retrim.device.shares import NAMES, named
from retrim.errors import DeviceError

STATIC = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Static power over dynamic power at the top operating point, where it is swept."""


def policies(table: LevelTable, cluster: Cluster, workload: Workload, shares: str) -> list[Policy]:
    """The policies that a table of levels allows: (a) and (b) need their models in it.

    Raises
    ------
    DeviceError
    """
    levels = table.levels
    found = []
    for letter, rival, title in (
        ("a", table.dense, "dense, top clock"),
        ("b", table.backbone, "backbone, top clock"),
        ("c", levels[0], "top level, top clock"),
    ):
        if rival is not None:
            found.append(Policy(name=letter, title=title, levels=(rival,)))
    model = table.backbone or levels[0]
    slowed = tuple(
        replace(model, name=f"{model.name} at {level.mhz:g} MHz", mhz=level.mhz) for level in levels
    )
    for letter, title, stages in (("d", "DVFS, one model", slowed), ("e", "DVFS and levels", levels)):
        parts = named(shares, [cost(level, cluster, workload) for level in stages])
        found.append(Policy(name=letter, title=title, levels=stages, shares=parts))
    return found


def simulate(
    table: LevelTable,
    cluster: Cluster,
    battery: Battery,
    workload: Workload,
    *,
    shares: str = NAMES[0],
    steps: int = STEPS,
) -> dict[str, Any]:
    """Discharge a battery under each policy.

    Parameters
    ----------
    table : LevelTable
    cluster : Cluster
    battery : Battery
    workload : Workload
    shares : str
        As `retrim.device.shares.named` takes them.
    steps : int
        As `discharge` takes them.

    Returns
    -------
    dict
        Ready for JSON: ``policies`` (as `Discharge.to_dict`), ``gain`` of (e) in inferences over
        the others that serve any, ``bound_over_c``, ``late`` levels, ``static`` and ``shares``: the gains again
        with other static power and other shares.

    Raises
    ------
    DeviceError
        If no level meets the deadline (says which one would do), an operating point is missing, or
        the battery is too small for one request of (e).
    """
    late = table.late(workload.deadline_ms)
    found = _all(table, cluster, battery, workload, shares, steps)
    _check_served(found["e"], battery)
    return {
        "workload": asdict(workload) | {"period_ms": workload.period},
        "battery": asdict(battery),
        "cluster": cluster.name,
        "shares_named": shares,
        "late": [level.name for level in late],
        "policies": [one.to_dict() for one in found.values()],
        "gain": gains(found),
        "bound_over_c": bound(table, cluster, workload, shares),
        "static": _static(table, cluster, battery, workload, shares, steps),
        "shares": {
            name: gains(_all(table, cluster, battery, workload, name, steps))
            | {"bound": bound(table, cluster, workload, name)}
            for name in NAMES
        },
    }


def gains(found: dict[str, Discharge]) -> dict[str, float]:
    """Inferences of (e) over those of each other policy that serves any."""
    most = found["e"].inferences
    return {name: most / one.inferences for name, one in found.items() if name != "e" and one.inferences}


def _check_served(found: Discharge, battery: Battery) -> None:
    """Refuse a battery that (e) cannot serve one request with."""
    if found.inferences:
        return
    first = found.spent[found.trace[-1][2]]
    needed = first.millijoules_each / 3600 / battery.efficiency
    raise DeviceError(
        f"capacity_mwh must be enough for one request of (e), not {battery.capacity_mwh:g}: at level {first.level!r} "
        f"one takes {needed:.3g} mWh; give a larger battery or a shorter period"
    )


def bound(table: LevelTable, cluster: Cluster, workload: Workload, shares: str) -> float:
    """What (e) could gain over (c) with levels that take exactly the deadline, by arithmetic.

    With shares s of the energy and the energy e of one request at each operating point, it is
    the sum of s · e(top) / e.
    """
    ideal = just_meeting([level.mhz for level in table.levels], workload.deadline_ms).levels
    costs = [cost(level, cluster, workload) for level in ideal]
    parts = named(shares, costs)
    return sum(s * costs[0].millijoules / price.millijoules for s, price in zip(parts, costs, strict=True))


def _all(
    table: LevelTable, cluster: Cluster, battery: Battery, workload: Workload, shares: str, steps: int
) -> dict[str, Discharge]:
    return {
        policy.name: discharge(policy, cluster, battery, workload, steps=steps)
        for policy in policies(table, cluster, workload, shares)
    }


def _static(
    table: LevelTable, cluster: Cluster, battery: Battery, workload: Workload, shares: str, steps: int
) -> list[dict[str, Any]]:
    """The gains with other static power; empty where power was measured as a whole."""
    if cluster.power is None:
        return []
    without = cluster.with_static(0.0)
    top = table.levels[0].mhz
    dynamic, volts = without.busy_mw(top, workload.cores), without.point(top).volts or 0.0
    rows = []
    for fraction in STATIC:
        # at the top operating point in use, which need not be the cluster's
        at_top = fraction * dynamic * (cluster.top.volts or volts) / volts
        other = without.with_static(at_top)
        found = _all(table, other, battery, workload, shares, steps)
        rows.append(
            {"fraction": fraction, "static_mw": fraction * dynamic, "gain": gains(found)}
            | {"bound": bound(table, other, workload, shares)}
        )
    return rows


def rivals_missing(table: LevelTable) -> list[str]:
    """Policies that the table has no model for."""
    return [name for name, level in (("a", table.dense), ("b", table.backbone)) if level is None]
