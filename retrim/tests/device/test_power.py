"""Power, clusters and devices: the equation, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from retrim.device import Battery, Cluster, Device, OperatingPoint, PowerModel
from retrim.errors import DeviceError


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    with pytest.raises(DeviceError) as error:
        yield
    assert str(error.value) == sentence


def test_power_is_the_equation() -> None:
    model = PowerModel(core_uw_per_mhz_v2=90.0, shared_uw_per_mhz_v2=30.0, static_ma=4.0)
    assert model.busy(1000, 1.1, 3) == pytest.approx((3 * 90 + 30) * 1000 * 1.21 / 1000 + 4.4)
    assert model.idle(1.1) == pytest.approx(4.4)
    assert model.with_static(11.0, 1.1).static_ma == pytest.approx(10.0)


def test_the_device_trees_unit_is_ours() -> None:
    """Linux: P [uW] = coefficient x MHz x V^2; the A7 at 1400 MHz and 1.275 V takes 204.8 mW a core."""
    assert PowerModel(core_uw_per_mhz_v2=90.0).busy(1400, 1.275, 1) == pytest.approx(204.83, abs=0.01)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("core_uw_per_mhz_v2", 0, "core_uw_per_mhz_v2 must be a number above 0 and at most 1e+06, not 0"),
        ("static_ma", -1.0, "static_ma must be a number of at least 0 and at most 1e+06, not -1.0"),
        (
            "shared_uw_per_mhz_v2",
            float("nan"),
            "shared_uw_per_mhz_v2 must be a number of at least 0 and at most 1e+06, not nan",
        ),
    ],
)
def test_absurd_coefficients(field: str, value: float, sentence: str) -> None:
    with refused(sentence):
        PowerModel(**{"core_uw_per_mhz_v2": 1.0, field: value})


def test_a_battery_holds_energy() -> None:
    assert Battery(capacity_mwh=2.0, efficiency=0.5).millijoules == 3600
    for change in ({"capacity_mwh": 0}, {"efficiency": 1.1}, {"efficiency": 0}):
        with pytest.raises(DeviceError, match="must be a number above 0"):
            Battery(**{"capacity_mwh": 1.0, **change})


def test_points(cluster: Cluster) -> None:
    assert cluster.top.mhz == 400
    assert [cluster.busy_mw(point.mhz) for point in cluster.points] == pytest.approx([10, 40, 160])
    assert cluster.busy_mw(400, 2) == pytest.approx(320)
    assert cluster.idle_mw(400) == 0
    with refused(
        "a frequency must be an operating point of cluster 'small', not 150 MHz; the nearest: 100 or 200"
    ):
        cluster.point(150)
    with refused("busy cores of cluster 'small' must be a whole number from 1 to 2, not 3"):
        cluster.busy_mw(400, 3)
    with refused("precision must be one whose throughput cluster 'small' knows (fp32), not 'int8'"):
        cluster.throughput("int8")


def test_static_power_goes_as_voltage(cluster: Cluster) -> None:
    leaking = cluster.with_static(8.0)
    assert leaking.idle_mw(400) == pytest.approx(8.0)
    assert leaking.idle_mw(100) == pytest.approx(4.0)
    assert leaking.busy_mw(100) == pytest.approx(14.0)


def test_measured_power(cluster: Cluster) -> None:
    points = (OperatingPoint(mhz=100, milliwatts=50.0), OperatingPoint(mhz=200, milliwatts=45.0))
    measured = replace(cluster, points=points, power=None)
    assert measured.busy_mw(100) == 50
    assert measured.idle_mw(100) == 0
    assert measured.notes == (
        "cluster small: measured power falls from 50 to 45 mW between 100 and 200 MHz; the table is used as it is",
    )
    with refused("power of cluster 'small' was measured with one busy core, so cores must be 1, not 2"):
        measured.busy_mw(100, 2)
    with refused(
        "static power can be set where power is modelled; that of cluster 'small' was measured as a whole: leave "
        "static power out"
    ):
        measured.with_static(1.0)
    unknown = replace(measured, points=(OperatingPoint(mhz=100),))
    with refused(
        "power of cluster 'small' at 100 MHz must be known, but its profile has neither a model nor a measurement: "
        "choose a built-in device (`retrim device list`)"
    ):
        unknown.busy_mw(100)


def test_a_voltage_that_falls_is_noted(cluster: Cluster) -> None:
    odd = replace(
        cluster, points=(OperatingPoint(mhz=1700, volts=1.25), OperatingPoint(mhz=1800, volts=1.2375))
    )
    assert odd.notes == (
        "cluster small: voltage falls from 1.25 to 1.2375 V between 1700 and 1800 MHz; the table is used as it is",
    )
    assert odd.busy_mw(1800) > odd.busy_mw(1700)
    assert cluster.notes == ()


def test_points_out_of_order(cluster: Cluster) -> None:
    with refused("operating points of cluster 'small' must rise in frequency, not go from 400 to 200 MHz"):
        replace(cluster, points=cluster.points[::-1])
    with refused("cluster 'small' must have an operating point, but has none"):
        replace(cluster, points=())


def test_devices(cluster: Cluster) -> None:
    fast = replace(cluster, name="fast")
    device = Device(name="board", title="A board", clusters=(cluster, fast))
    assert device.cluster() is fast  # the last of those that are equally fast
    slow = replace(cluster, name="slow", points=cluster.points[:-1])
    assert replace(device, clusters=(fast, slow)).cluster() is fast
    assert device.cluster("small") is cluster
    with refused("cluster must be one of small, fast on board, not 'big'"):
        device.cluster("big")
    with refused("clusters of device 'board' must have names of their own, not ['small', 'small']"):
        replace(device, clusters=(cluster, cluster))
    with refused("device 'board' must have a cluster, but has none"):
        replace(device, clusters=())
