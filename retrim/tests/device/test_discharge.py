"""Batteries that empty: against arithmetic, and what follows from physics."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.device import (
    Battery,
    Cluster,
    Level,
    LevelTable,
    OperatingPoint,
    Policy,
    PowerModel,
    Workload,
    discharge,
    find,
    just_meeting,
    simulate,
)
from retrim.device.discharge import STEPS, cost
from retrim.device.shares import NAMES, named
from retrim.errors import DeviceError

SIX = [400, 600, 800, 1000, 1200, 1400]
FAST = Level(name="fast", mhz=400, cycles=4e6, accuracy=0.5)  # 10 ms
SLOW = Level(name="slow", mhz=100, cycles=1e6, accuracy=0.4)  # 10 ms
WORK = Workload(deadline_ms=10.0)


def one(level: Level) -> Policy:
    return Policy(name="x", title="one level", levels=(level,))


def test_one_level_by_hand(cluster: Cluster, battery: Battery) -> None:
    """160 mW for 10 ms are 1.6 mJ; 100 mWh are 360 J."""
    found = discharge(one(FAST), cluster, battery, WORK)
    assert found.inferences == 225_000
    assert found.missed == 0
    assert found.hours == pytest.approx(225_000 * 10 / 3.6e6)
    assert found.used_mwh + found.left_mwh == pytest.approx(100)
    assert found.accuracy == pytest.approx(0.5) and found.work == pytest.approx(112_500)
    assert found.trace[0] == (0.0, 1.0, 0) and found.trace[-1][1] == pytest.approx(0, abs=1e-9)


def test_waiting_costs_static_power(cluster: Cluster, battery: Battery) -> None:
    """168 mW for 10 ms and 8 mW for 30 ms are 1.92 mJ a request."""
    found = discharge(one(FAST), cluster.with_static(8.0), battery, replace(WORK, period_ms=40.0))
    assert found.inferences == 187_500
    assert found.hours == pytest.approx(187_500 * 40 / 3.6e6)


def test_late_and_dropped(cluster: Cluster, battery: Battery) -> None:
    """20 ms with a request each 10: late, and every second one is dropped."""
    found = discharge(one(replace(FAST, cycles=8e6)), cluster, battery, WORK)
    assert found.inferences == found.missed == 112_500
    assert found.spent[0].dropped == pytest.approx(112_500)
    assert found.work == 0 and found.accuracy == pytest.approx(0.5)


def test_efficiency_of_the_battery(cluster: Cluster, battery: Battery) -> None:
    found = discharge(one(FAST), cluster, replace(battery, efficiency=0.5), WORK)
    assert found.inferences == 112_500
    assert found.used_mwh + found.left_mwh == pytest.approx(100)


levels_ = st.lists(
    st.sampled_from(find("odroid-xu3-a7").cluster().points), min_size=1, max_size=6, unique=True
)


@settings(deadline=None, max_examples=40)
@given(
    levels_,
    st.lists(st.floats(0.01, 1), min_size=6, max_size=6),
    st.lists(st.floats(0.2, 3.0), min_size=6, max_size=6),
    st.floats(0, 100),
    st.floats(20, 400),
)
def test_against_arithmetic(
    points: list[OperatingPoint], weights: list[float], loads: list[float], static: float, period: float
) -> None:
    """Share of the energy over the energy of one request, for every level; a step of the battery is the error."""
    cluster = find("odroid-xu3-a7").cluster().with_static(static)
    battery = Battery(capacity_mwh=50.0)
    work = Workload(deadline_ms=100.0, period_ms=period)
    points = sorted(points, key=lambda point: -point.mhz)
    levels = tuple(
        Level(name=str(p.mhz), mhz=p.mhz, cycles=1e5 * p.mhz * load)
        for p, load in zip(points, loads, strict=False)
    )
    shares = tuple(weights[: len(levels)])
    found = discharge(Policy(name="x", title="x", levels=levels, shares=shares), cluster, battery, work)
    for level, share, spent in zip(levels, shares, found.spent, strict=True):
        point = cluster.point(level.mhz)
        assert point.volts is not None
        latency = level.cycles / level.mhz / 1000
        wait = max(period, latency) - latency
        dynamic = 90 * point.mhz * point.volts**2 / 1000
        leak = static * point.volts / 1.275
        each = ((dynamic + leak) * latency + leak * wait) / 1000
        energy = 3600 * 50 * share / sum(shares)
        step = 3600 * 50 / STEPS
        assert abs(spent.inferences * each - energy) <= 2 * max(step, each) + 1e-6 * energy
        assert spent.late == (latency > 100 * (1 + 1e-6))
    assert found.used_mwh <= 50 + 1e-9


def test_the_paper_like_case_by_hand() -> None:
    """A7, six levels, equal shares, no static power, levels that just meet the deadline: 2.65 times the top level.

    An inference at f takes f cycles for the deadline's time, so its energy goes as f V^2: the gain is the
    mean over the levels of 1400 * 1.275^2 / (f V^2).
    """
    volts = {400: 1.0, 600: 1.0, 800: 1.1, 1000: 1.1, 1200: 1.25, 1400: 1.275}
    by_hand = sum(1400 * 1.275**2 / (f * v**2) for f, v in volts.items()) / 6
    assert by_hand == pytest.approx(2.6548, abs=1e-4)
    device = find("odroid-xu3-a7")
    assert device.battery is not None
    found = simulate(just_meeting(SIX, 100.0), device.cluster(), device.battery, Workload(deadline_ms=100.0))
    assert found["bound_over_c"] == pytest.approx(by_hand)
    assert found["gain"]["c"] == pytest.approx(by_hand, rel=1e-3)
    assert [p["missed"] for p in found["policies"] if p["policy"] in "ce"] == [0, 0]


@pytest.fixture
def table() -> LevelTable:
    return LevelTable(
        levels=(FAST, SLOW),
        dense=replace(FAST, name="dense", cycles=1.2e7),
        backbone=replace(FAST, name="backbone", cycles=3.9e6, accuracy=0.49),
    )


def test_five_policies(table: LevelTable, cluster: Cluster, battery: Battery) -> None:
    found = simulate(table, cluster, battery, WORK)
    policies = {p["policy"]: p for p in found["policies"]}
    assert list(policies) == ["a", "b", "c", "d", "e"]
    assert policies["a"]["missed"] == policies["a"]["inferences"] == 75_000
    assert policies["b"]["inferences"] == pytest.approx(225_000 * 4 / 3.9, rel=1e-4)
    # (d) runs the backbone at both clocks, late at the slow one
    assert [part["late"] for part in policies["d"]["levels"]] == [False, True]
    # (e): half of the energy at 1.6 mJ each, half at 0.1 mJ
    e = policies["e"]
    assert e["inferences"] == pytest.approx(112_500 + 1_800_000, rel=1e-3)
    assert e["accuracy"] == pytest.approx((112_500 * 0.5 + 1_800_000 * 0.4) / 1_912_500, rel=1e-3)
    assert found["gain"]["a"] == e["inferences"] / 75_000
    assert found["late"] == []


def test_without_rivals_or_accuracy(table: LevelTable, cluster: Cluster, battery: Battery) -> None:
    bare = LevelTable(levels=(replace(FAST, accuracy=None), SLOW))
    found = simulate(bare, cluster, battery, WORK)
    assert [p["policy"] for p in found["policies"]] == ["c", "d", "e"]
    assert found["policies"][-1]["accuracy"] is None
    assert found["policies"][-1]["accuracy_weighted_work"] is None


def test_static_power_takes_the_gain_away(table: LevelTable, cluster: Cluster, battery: Battery) -> None:
    found = simulate(table, cluster, battery, WORK)
    gains = [row["gain"]["c"] for row in found["static"]]
    assert gains == sorted(gains, reverse=True) and gains[0] > 1.3 * gains[-1]
    assert [row["static_mw"] for row in found["static"]] == pytest.approx([0, 8, 16, 32, 64])
    # at 40 %: 224 and 42 mW for 10 ms each
    assert found["static"][-1]["bound"] == pytest.approx((1 + 224 / 42) / 2)
    assert all(row["gain"]["c"] <= row["bound"] * 1.001 for row in found["static"])


def test_shares(cluster: Cluster, table: LevelTable, battery: Battery) -> None:
    costs = [cost(level, cluster, WORK) for level in table.levels]
    assert [price.millijoules for price in costs] == pytest.approx([1.6, 0.1])
    assert named("equal-energy", costs) == (0.5, 0.5)
    assert named("equal-inferences", costs) == pytest.approx((16 / 17, 1 / 17))
    assert named("fast-first", costs) == pytest.approx((2 / 3, 1 / 3))
    assert named("slow-first", costs) == pytest.approx((1 / 3, 2 / 3))
    assert named("3,1", costs) == (0.75, 0.25)
    equal = simulate(table, cluster, battery, WORK, shares="equal-inferences")
    first, second = (part["inferences"] for part in equal["policies"][-1]["levels"])
    assert first == pytest.approx(second, rel=0.02)
    assert set(equal["shares"]) == set(NAMES)
    for wrong in ("1", "1,2,3", "a,b", "-1,2", "0,0", "inf,1"):
        with pytest.raises(DeviceError) as error:
            named(wrong, costs)
        assert str(error.value) == (
            "shares must be one of equal-energy, equal-inferences, equal-time, fast-first, slow-first, or 2 numbers "
            f"with commas between them, not {wrong!r}"
        )


def test_measured_power_is_not_swept(table: LevelTable, battery: Battery) -> None:
    points = (OperatingPoint(mhz=100, milliwatts=20.0), OperatingPoint(mhz=400, milliwatts=100.0))
    found = simulate(table, Cluster(name="m", cores=1, points=points), battery, WORK)
    assert found["static"] == []
    assert found["gain"]["c"] == pytest.approx((1 + 5) / 2, rel=1e-3)


def test_no_level_in_time(table: LevelTable, cluster: Cluster, battery: Battery) -> None:
    with pytest.raises(DeviceError, match="ask for 10 ms or more, or for sparser levels"):
        simulate(table, cluster, battery, Workload(deadline_ms=5.0))
    slower = replace(table, levels=(FAST, replace(SLOW, cycles=2e6)))
    assert simulate(slower, cluster, battery, WORK)["late"] == ["slow"]


def test_absurd_workloads(cluster: Cluster, battery: Battery) -> None:
    for change in ({"deadline_ms": 0}, {"deadline_ms": 1, "period_ms": -1}, {"deadline_ms": 1, "cores": 0}):
        with pytest.raises(DeviceError, match="must be a"):
            Workload(**change)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="the nearest: 200 or 400"):
        discharge(one(replace(FAST, mhz=300)), cluster, battery, WORK)


def test_a_battery_for_nothing(cluster: Cluster) -> None:
    found = discharge(one(FAST), cluster, Battery(capacity_mwh=1e-4), WORK)
    assert (found.inferences, found.hours, found.accuracy) == (0, 0, None)


def test_a_battery_too_small_for_one_request(table: LevelTable, cluster: Cluster) -> None:
    with pytest.raises(DeviceError) as error:
        simulate(table, cluster, Battery(capacity_mwh=1e-5, efficiency=0.5), WORK)
    assert str(error.value) == (
        "capacity_mwh must be enough for one request of (e), not 1e-05: at level 'fast' one takes 0.000889 mWh; give a "
        "larger battery or a shorter period"
    )


def test_policies_that_serve_nothing_have_no_gain(table: LevelTable, cluster: Cluster) -> None:
    """1.6 mJ at the top, 4.8 mJ of the dense model; 2 mJ are in the battery."""
    found = simulate(table, cluster, Battery(capacity_mwh=2 / 3600), WORK)
    assert found["policies"][0]["inferences"] == 0
    assert set(found["gain"]) == {"b", "c", "d"}


def test_times_too_short_to_count() -> None:
    for change in ({"deadline_ms": 1e-310}, {"deadline_ms": 1.0, "period_ms": 1e-310}):
        name = "period_ms" if "period_ms" in change else "deadline_ms"
        with pytest.raises(DeviceError) as error:
            Workload(**change)
        assert str(error.value) == (
            f"{name} must be a number of at least 1e-09 and at most 1e+12, not 1e-310"
        )


def test_charge_only_falls(table: LevelTable, cluster: Cluster, battery: Battery) -> None:
    trace = simulate(table, cluster, battery, WORK)["policies"][-1]["trace"]
    assert all(a[0] <= b[0] and a[1] >= b[1] and a[2] <= b[2] for a, b in itertools.pairwise(trace))


def test_power_of_a_model_with_shared_capacitance(battery: Battery) -> None:
    power = PowerModel(core_uw_per_mhz_v2=100.0, shared_uw_per_mhz_v2=300.0)
    cluster = Cluster(name="x", cores=4, points=(OperatingPoint(mhz=400, volts=1.0),), power=power)
    one_core = discharge(one(FAST), cluster, battery, WORK).inferences
    four = discharge(one(FAST), cluster, battery, replace(WORK, cores=4)).inferences
    assert one_core / four == pytest.approx(7 / 4, rel=1e-3)
