"""A layer on a base: one material twice is one target, the oracle, conservation, both emissions, limits."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tubes import bands, run

from conebeam.errors import ConfigError
from conebeam.histories import tube_scores as scores
from conebeam.tube.emission import Analog, Expected, Transport
from conebeam.tube.model import View, XrayTube

# Half of the electrons' range: they meet the interface at all energies.
THIN: dict[str, Any] = {"target": "W", "thickness_mm": 0.002, "base": "Cu"}
TOTALS = (scores.BACK, scores.BACK_ENERGY, scores.FIELD, scores.FIELD_ENERGY, scores.FIELD_ALL)
BANDS = [5, 8, 9, 15, 25, 40, 60, 95]


def far(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], which: Any) -> np.ndarray:
    """Differences in σ."""
    return np.abs(one[0][which] - other[0][which]) / np.hypot(one[1][which], other[1][which])


def test_tungsten_on_tungsten_is_tungsten() -> None:
    layered = run(10_000, Expected(), **{**THIN, "base": "W"})[:2]
    whole = run(10_000, Expected(), seed=2)[:2]
    assert np.all(far(layered, whole, list(TOTALS)) < 3.5)
    assert bands(layered, whole, scores.SPECTRUM, BANDS) < stats.chi2.ppf(0.999, len(BANDS) - 1)
    assert whole[1][scores.FIELD] < 0.02 * whole[0][scores.FIELD]


def test_a_layer_that_nothing_passes_is_the_whole_target() -> None:
    """Five millimetres let no photon through: the same histories to the last bit."""
    layered = run(300, Expected(), thickness_mm=5.0, base="W")[:2]
    whole = run(300, Expected(), thickness_mm=5.0)[:2]
    assert all(np.array_equal(a, b) for a, b in zip(layered, whole, strict=True))


def test_steps_across_the_interface_agree_with_single_scattering() -> None:
    condensed = run(12_000, Expected(), **THIN)[:2]
    single = run(1_000, Expected(), transport=Transport(single=True), seed=2, **THIN)[:2]
    assert np.all(far(condensed, single, list(TOTALS)) < 3.5)
    # Copper's K lines (8 to 9 keV) are made behind the interface, tungsten's L lines before it.
    assert bands(condensed, single, scores.SPECTRUM, BANDS) < stats.chi2.ppf(0.999, len(BANDS) - 1)
    assert single[1][scores.FIELD] < 0.06 * single[0][scores.FIELD]


def test_energy_is_conserved_across_the_interface() -> None:
    _, _, engine = run(4_000, Analog(), **THIN)
    assert engine.balance[scores.WORST] < 1e-12
    parts = engine.balance[[scores.STOPPED, scores.REFLECTED, scores.SHONE, scores.LOST]]
    assert parts.sum() == pytest.approx(engine.balance[scores.STARTED], rel=1e-12)
    assert np.all(parts >= 0.0) and parts[2] > 0.0


def test_expected_emission_agrees_with_analog_through_both_layers() -> None:
    analog = run(60_000, Analog(split=20), **THIN)[:2]
    expected = run(10_000, Expected(interior=0.5), seed=3, **THIN)[:2]
    assert np.all(far(analog, expected, list(TOTALS)) < 3.5)
    assert bands(analog, expected, scores.SPECTRUM, BANDS) < stats.chi2.ppf(0.999, len(BANDS) - 1)


def test_a_vanishing_layer_leaves_its_base() -> None:
    """Backscatter and fluence lie ever nearer those of copper, and reach them at a nanometre."""
    copper = run(8_000, Expected(), target="Cu")[:2]
    found = [run(8_000, Expected(), seed=3, **{**THIN, "thickness_mm": mm})[:2] for mm in (2e-3, 5e-4, 1e-6)]
    for i in (scores.BACK, scores.FIELD):
        away = [each[0][i] - copper[0][i] for each in found]
        assert away[0] > away[1] > 3.0 * copper[1][i]
    assert np.all(far(found[2], copper, list(TOTALS)) < 3.5)


def test_a_filter_behind_two_layers_is_the_same_filter() -> None:
    """Sheets follow the layers in the photon tables: 2.5 mm Al at 30 keV, 1.077 cm2/g."""
    view = View(with_heel=False)
    bare = run(600, Expected(), view=view, **THIN)[0]
    behind = run(600, Expected(), view=view, filters=("Al:2.5mm",), **THIN)[0]
    near = slice(scores.SPECTRUM + 60, scores.SPECTRUM + 62)
    assert behind[near].sum() / bare[near].sum() == pytest.approx(np.exp(-1.077 * 2.699 * 0.25), rel=0.02)


def test_a_rhenium_alloy_shines_as_tungsten_with_rheniums_lines() -> None:
    """A tenth of Z = 75: the continuum within a per cent, Re Kα1 (61.14 keV) where W has no line."""
    view = View(with_heel=False)
    alloy = run(12_000, Expected(), view=view, target="W-Re")[:2]
    pure = run(12_000, Expected(), view=view, seed=2)[:2]
    assert far(alloy, pure, scores.FIELD) < 3.5 or alloy[0][scores.FIELD] == pytest.approx(
        pure[0][scores.FIELD], rel=0.01
    )
    line, beside = scores.SPECTRUM + 122, slice(scores.SPECTRUM + 124, scores.SPECTRUM + 128)
    assert alloy[0][line] > 1.15 * alloy[0][beside].mean()
    assert pure[0][line] < 1.10 * pure[0][beside].mean()


@pytest.mark.parametrize(("changes", "message"), [
    ({"base": "Cu", "base_thickness_mm": 0.01},
     "base_thickness_mm must be at least the range of the electrons, 0.0250 mm in Cu at 100 keV "
     "(what lies behind the target is not modelled), not 0.01"),
    ({"base_thickness_mm": 1.0}, "base_thickness_mm must go with a base, not stand alone; leave it out"),
    ({"base": "Al"}, "base must be one of W, W-Re, Mo, Rh, Cu (those with tables for electrons), not 'Al'"),
    ({"rhenium_share": 0.05}, "rhenium_share must go with target 'W-Re', not 'W'; leave it out"),
    ({"target": "W-Re", "rhenium_share": 1.5}, "rhenium_share must be below 1.0, not 1.5"),
])  # fmt: skip
def test_bad_layers_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        XrayTube.of(**{"kvp": 100.0, **changes})
    assert str(error.value) == message


def test_a_layered_tube_comes_back_from_its_file() -> None:
    tube = XrayTube.of(kvp=80.0, target="W-Re", rhenium_share=0.05, thickness_mm=0.001, base="Mo")
    assert XrayTube.of(**tomllib.loads(tube.to_toml())) == tube
