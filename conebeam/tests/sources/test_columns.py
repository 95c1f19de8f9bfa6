"""Fields in columns: photons where the intensities say, with the energies of their column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from emitting import draw
from scipy import stats

from conebeam.errors import ConfigError
from conebeam.scene import PointSource
from conebeam.sources.columns import Columns, rectangle_sr
from conebeam.sources.emission import build_emission, fluence_ratio
from conebeam.spectra import Emitted, with_columns

N = 100_000
# Four columns of 5 cm at 20 cm, 20 cm high; each with its own line and one that all have.
LOW = np.array([20.0, 30.0, 40.0, 50.0, 60.0])
INTENSITY = np.array([
    [1.0, 0.0, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 0.0, 1.0], [0.0, 0.0, 5.0, 0.0, 1.0], [0.0, 0.0, 0.0, 9.0, 1.0],
])  # fmt: skip
COLUMNS = Columns(low=LOW, high=LOW + 2.0, intensity=INTENSITY, reach=0.5, height=0.5)


def point(**values: Any) -> PointSource:
    field = {"kind": "rectangle", "width_cm": 20.0, "height_cm": 20.0, **values.pop("field", {})}
    spectrum = {"kind": "tube_result", "file": "tube.h5", **values.pop("spectrum", {})}
    return PointSource(**{"position_cm": (0.0, 0.0, -20.0), "field": field, "spectrum": spectrum, **values})


def drawn(source: PointSource, emitted: Emitted) -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane z = 0 and energies."""
    beam, out = source.beam(), np.empty((N, 7))
    emission = build_emission(
        kind=beam.kind, shape=beam.shape, position=beam.position, direction=beam.direction, centre=beam.centre,
        across=beam.u, along=beam.v, spectrum=emitted.spectrum, origin=(0.0, 0.0, 5.0), columns=emitted.columns,
        cathode=emitted.cathode,
    )  # fmt: skip
    draw(emission, out)
    assert np.linalg.norm(out[:, 3:6], axis=1) == pytest.approx(1.0, abs=1e-12)
    t = (-5.0 - out[:, 2]) / out[:, 5]
    return out[:, :2] + t[:, None] * out[:, 3:5], out[:, 6]


def expected(x_cm: np.ndarray, y_cm: np.ndarray) -> np.ndarray:
    """Photons at (x, y) at 20 cm per area, up to a factor, from +x being the cathode's side."""
    column = np.clip((x_cm + 10.0) // 5.0, 0, 3).astype(int)
    cosines: np.ndarray = (1.0 + (x_cm**2 + y_cm**2) / 400.0) ** -1.5
    return INTENSITY.sum(axis=1)[column] * cosines


def check(at: np.ndarray, box: tuple[float, float, float, float], sign: float = 1.0) -> None:
    x0, x1, y0, y1 = box
    assert at[:, 0].min() >= x0 - 1e-9 and at[:, 0].max() <= x1 + 1e-9
    assert at[:, 1].min() >= y0 - 1e-9 and at[:, 1].max() <= y1 + 1e-9
    counts = np.histogram2d(at[:, 0], at[:, 1], bins=(8, 4), range=((x0, x1), (y0, y1)))[0]
    x = x0 + (np.arange(160) + 0.5) * (x1 - x0) / 160.0
    y = y0 + (np.arange(80) + 0.5) * (y1 - y0) / 80.0
    fine = expected(sign * x[:, None], y[None, :]).reshape(8, 20, 4, 20).sum(axis=(1, 3))
    assert stats.chisquare(counts.ravel(), (fine / fine.sum() * N).ravel()).pvalue > 1e-4


def test_a_rectangle_s_solid_angle() -> None:
    # The mean of (d/r)³ over a rectangle is its solid angle over its area at unit distance.
    assert rectangle_sr(-0.5, 0.5, 0.3) == pytest.approx(fluence_ratio(1.0, 0.5, 0.3) * 1.0 * 0.6)
    assert rectangle_sr(-0.5, 0.1, 0.3) + rectangle_sr(0.1, 0.5, 0.3) == pytest.approx(
        rectangle_sr(-0.5, 0.5, 0.3)
    )


def test_photons_go_where_the_intensities_say_with_the_energies_of_their_column() -> None:
    source = point()
    emitted = with_columns(source, COLUMNS)
    at, energy = drawn(source, emitted)
    check(at, (-10.0, 10.0, -10.0, 10.0))
    column = ((at[:, 0] + 10.0) // 5.0).astype(int)
    line = np.searchsorted(LOW, energy) - 1
    assert np.all((line == column) | (line == 4))
    for i in range(4):
        here = line[column == i]
        common = 1.0 / INTENSITY[i].sum()
        assert stats.binomtest(int((here == 4).sum()), len(here), common).pvalue > 1e-4
    # Within a bin evenly; and all energies together are what the source says it emits.
    assert stats.kstest(energy[line == 4] - 60.0, "uniform", args=(0.0, 2.0)).pvalue > 1e-4
    counts = np.bincount(line, minlength=5)
    assert stats.chisquare(counts, emitted.spectrum.weight * N).pvalue > 1e-4


def test_a_smaller_field_off_the_axis_meets_the_columns_it_covers() -> None:
    # 6x4 cm about (4, -3): columns 2 and 3 from x = 1 to 7.
    source = point(field={"width_cm": 6.0, "height_cm": 4.0, "centre_cm": (4.0, -3.0, 0.0)})
    emitted = with_columns(source, COLUMNS)
    at, energy = drawn(source, emitted)
    check(at, (1.0, 7.0, -5.0, -1.0))
    assert set((np.searchsorted(LOW, energy) - 1).tolist()) == {2, 3, 4}
    area = 24.0 / 60.0**2
    mean = np.mean(
        [expected(x, y) for x in np.linspace(1.05, 6.95, 60) for y in np.linspace(-4.95, -1.05, 40)]
    )
    assert emitted.per_electron == pytest.approx(9.0 * area * mean, rel=1e-3)


@pytest.mark.parametrize(("cathode", "turn", "axis", "sign"), [
    ((-1.0, 0.0, 0.0), None, 0, -1.0),
    ((0.0, 2.0, 5.0), None, 1, 1.0),
    (None, {"angle_deg": 90.0, "axis": (0.0, 0.0, 1.0)}, 1, 1.0),
])  # fmt: skip
def test_the_cathode_has_a_direction(
    cathode: tuple[float, float, float] | None, turn: dict[str, object] | None, axis: int, sign: float
) -> None:
    source = point(spectrum={"cathode": cathode}, turn=turn)
    at, _ = drawn(source, with_columns(source, COLUMNS))
    check(at if axis == 0 else at[:, ::-1], (-10.0, 10.0, -10.0, 10.0), sign)


def test_a_round_field_has_columns_too() -> None:
    source = PointSource(
        position_cm=(0.0, 0.0, -20.0), field={"kind": "circle", "diameter_cm": 20.0},
        spectrum={"kind": "tube_result", "file": "tube.h5"},
    )  # fmt: skip
    emitted = with_columns(source, COLUMNS)
    at, _ = drawn(source, emitted)
    assert np.sum(at**2, axis=1).max() <= 100.0 + 1e-9
    share = np.bincount(((at[:, 0] + 10.0) // 5.0).astype(int), minlength=4)
    side = np.linspace(-9.95, 9.95, 200)
    x, y = np.meshgrid(side, side)
    weight = expected(x, y) * (x * x + y * y <= 100.0)
    sums = np.array([weight[(x >= low) & (x < low + 5.0)].sum() for low in (-10.0, -5.0, 0.0, 5.0)])
    assert stats.chisquare(share, sums / sums.sum() * N).pvalue > 1e-4
    assert emitted.per_electron == pytest.approx(sums.sum() * 0.01 / 400.0, rel=1e-3)


def test_one_column_is_an_isotropic_point() -> None:
    one = Columns(low=LOW, high=LOW + 2.0, intensity=np.ones((1, 5)), reach=0.5, height=0.5)
    spectrum, number = one.emitted(_opening())
    assert spectrum.weight == pytest.approx(np.full(5, 0.2))
    assert number == pytest.approx(5.0 * rectangle_sr(-0.5, 0.5, 0.5), rel=1e-5)
    assert math.isclose(_opening().distance_cm, 20.0)


def _opening() -> Any:
    from conebeam.spectra import opening_of

    return opening_of(point())


@pytest.mark.parametrize(("field", "message"), [
    ({"width_cm": 22.0}, "reaches across, from anode to cathode, to 55 cm at 100 cm instead of 50 cm; make it smaller "
     "or compute the tube in a larger field"),
    ({"height_cm": 20.5}, "reaches the other way to 51.25 cm at 100 cm instead of 50 cm; make it smaller or compute "
     "the tube in a larger field"),
    ({"centre_cm": (1.0, 0.0, 0.0)}, "reaches across, from anode to cathode, to 55 cm at 100 cm instead of 50 cm; "
     "make it smaller or compute the tube in a larger field"),
])  # fmt: skip
def test_a_field_beyond_the_columns_is_refused(field: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_columns(point(field=field), COLUMNS)
    assert (
        str(error.value)
        == f"the source's field must lie within the field the tube was computed for, and {message}"
    )


def test_a_cathode_at_right_angles_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        with_columns(point(spectrum={"cathode": (0.0, 0.0, 1.0)}), COLUMNS)
    assert str(error.value) == (
        "source.spectrum.cathode must not be at right angles to the field, as (0.0, 0.0, 1.0) is; give a "
        "direction along it"
    )
