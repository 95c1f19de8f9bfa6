"""The latency model: sums here, and what it makes of another device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from retrim.device import Cluster, OperatingPoint
from retrim.errors import DeviceError, ProfileError
from retrim.runtime import isa
from retrim.runtime.entry import Entry, Request
from retrim.runtime.latency_model import LatencyModel
from retrim.runtime.machine import Machine
from retrim.runtime.profile import Profile

REQUEST = Request(
    precision="fp32",
    activations=None,
    outputs=100,
    inputs=100,
    density=0.5,
    rows=32,
    group=1,
    tokens=10,
    threads=1,
)
MACHINE = Machine(processor="P", isa=("avx512", "portable"), kernels="1")
CLUSTER = Cluster(
    name="A7",
    cores=4,
    points=(OperatingPoint(mhz=400, volts=1.0), OperatingPoint(mhz=1000, volts=1.1)),
    macs_per_cycle={"fp32": 2.0},
)


@pytest.fixture(autouse=True)
def instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "available", lambda: list(MACHINE.isa))
    monkeypatch.delenv(isa.VARIABLE, raising=False)


def entry(microseconds: float, **changes: Any) -> Entry:
    fields = {name: getattr(REQUEST, name) for name in Request.__dataclass_fields__}
    own = {"isa": "avx512", "variant": "direct"} | changes
    return Entry(**(fields | own), microseconds=microseconds, runs=5)


@pytest.fixture
def model() -> LatencyModel:
    """The layer takes 10 µs; dense it takes 16 µs, and torch does it in 12.5: 100,000 MACs, 8000 per µs."""
    known = (entry(10.0), entry(16.0, density=1.0), entry(12.5, density=1.0, isa="torch", variant="mkl"))
    return LatencyModel(Profile(MACHINE, known))


def test_a_layer_that_was_measured(model: LatencyModel) -> None:
    found = model.layer(REQUEST)
    assert (found.microseconds, found.measured, found.macs) == (10.0, True, 50_000)


def test_a_layer_that_is_estimated(model: LatencyModel) -> None:
    found = model.layer(replace(REQUEST, density=0.25))
    assert not found.measured
    assert 0 < found.microseconds < 10


def test_a_model_is_its_layers_and_the_rest(model: LatencyModel) -> None:
    assert model.here_ms([REQUEST, REQUEST], rest_ms=0.5) == pytest.approx(0.52)
    assert model.here_ms([]) == 0


def test_another_device_is_used_as_well(model: LatencyModel) -> None:
    """5000 of 8000 MACs per µs here: 62.5 % of 2 MACs per cycle there."""
    assert model.rate(REQUEST) == pytest.approx(8000)
    assert model.cycles([REQUEST], CLUSTER) == pytest.approx(50_000 / (0.625 * 2))
    assert model.cycles([REQUEST] * 3, CLUSTER) == pytest.approx(120_000)
    assert model.latency_ms([REQUEST], CLUSTER, 400) == pytest.approx(0.1)
    assert model.latency_ms([REQUEST], CLUSTER, 1000) == pytest.approx(0.04)


def test_twice_as_fast_everywhere_here_changes_nothing_there(model: LatencyModel) -> None:
    """The clock of the running machine cancels."""
    faster = Profile(
        MACHINE, tuple(replace(e, microseconds=e.microseconds / 2) for e in model.profile.entries)
    )
    assert LatencyModel(faster).cycles([REQUEST], CLUSTER) == pytest.approx(model.cycles([REQUEST], CLUSTER))


def test_what_is_refused(model: LatencyModel) -> None:
    with pytest.raises(ProfileError) as error:
        model.layer(replace(REQUEST, threads=2))
    assert str(error.value) == (
        "the profile must know layers in fp32 on 2 thread(s), but does not: call `retrim device calibrate`"
    )
    with pytest.raises(ProfileError) as error:
        LatencyModel(Profile(MACHINE, (entry(10.0),))).rate(REQUEST)
    assert str(error.value) == (
        "the profile must know a dense layer in fp32 on 1 thread(s), but does not: call `retrim device calibrate`"
    )
    with pytest.raises(DeviceError, match="precision must be one whose throughput cluster 'A7' knows"):
        model.cycles([REQUEST], replace(CLUSTER, macs_per_cycle={}))
    with pytest.raises(
        DeviceError, match="a frequency must be an operating point of cluster 'A7', not 500 MHz"
    ):
        model.latency_ms([REQUEST], CLUSTER, 500)
