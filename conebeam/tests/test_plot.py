"""Pictures: what is on them, and that they are files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy
from matplotlib.figure import Figure

from conebeam.compare import Curve, compare_curves, curve_of
from conebeam.errors import ConfigError
from conebeam.plot import curve_figure, overview_figure, plane_figure, save_figure
from conebeam.result import Result


@pytest.fixture(scope="module")
def whole() -> Result:
    return toy.result()


def reference(result: Result) -> Curve:
    ours = curve_of(result["depth"])
    return Curve(position=ours.position, value=1.1 * ours.value, sigma=ours.sigma, name="ref")


def test_a_curve_shows_its_values_scaled_and_labelled(whole: Result) -> None:
    (ax,) = curve_figure([whole["depth"]]).axes
    (line,) = ax.get_lines()
    assert np.asarray(line.get_ydata()) == pytest.approx(whole["depth"].values * 1e15)
    assert np.array_equal(line.get_xdata(), whole["depth"].axes[0].centres())
    assert ax.get_xlabel() == "depth z (cm)"
    assert ax.get_ylabel() == "dose ($10^{-15}$ Gy cm² per mean surface fluence)"


def test_differences_are_drawn_beneath(whole: Result) -> None:
    theirs = reference(whole)
    comparison = compare_curves(curve_of(whole["depth"]), theirs)
    figure = curve_figure([whole["depth"]], reference=theirs, comparison=comparison)
    upper, lower = figure.axes
    assert "reference (ref)" in [t.get_text() for t in upper.get_legend().get_texts()]
    drawn = [line.get_ydata() for line in lower.get_lines()]
    assert any(len(np.atleast_1d(y)) == 10 and np.allclose(np.asarray(y), 1 / 1.1 - 1) for y in drawn)
    assert "0 % of points within 2 %" in [t.get_text() for t in lower.texts]


def test_a_plane_shows_the_voxels_on_both_sides_of_an_edge(whole: Result) -> None:
    (ax,) = plane_figure(whole["dose"], normal="y", at_cm=0.0).axes
    values = whole["dose"].values[:, 1:3].mean(axis=1)
    shown = np.asarray(ax.collections[0].get_array()).ravel()
    assert shown == pytest.approx((values / values.max()).T.ravel())
    assert ax.yaxis_inverted()
    assert ax.get_title().startswith("dose at y = 0 cm")


def test_a_plane_in_a_voxel_shows_that_voxel(whole: Result) -> None:
    (ax,) = plane_figure(whole["dose"], normal="z", at_cm=3.5).axes
    values = whole["dose"].values[:, :, 3]
    assert np.asarray(ax.collections[0].get_array()).ravel() == pytest.approx(
        (values / values.max()).T.ravel()
    )


def test_the_overview_has_a_panel_for_each_kind(whole: Result) -> None:
    figure = overview_figure(whole, title="toy")
    assert len([ax for ax in figure.axes if ax.axison]) == 2


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_pictures_are_written(whole: Result, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    save_figure(plane_figure(whole["dose"]), path)
    magic = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: curve_figure([]), "a figure must have at least one curve, not none"),
        (
            lambda r: curve_figure([r["depth"], r["parts"]]),
            "curves in one figure must share axis, unit and normalisation",
        ),
        (
            lambda r: plane_figure(r["dose"], normal="w"),
            "the normal of a plane must be x, y or z, not 'w'",
        ),
        (
            lambda r: plane_figure(r["dose"], normal="y", at_cm=7.0),
            "the plane must cut the grid of 'dose' between -2 and 2 cm, not lie at 7 cm",
        ),
        (
            lambda r: plane_figure(r["depth"]),
            "'depth' must be a grid to be drawn in a plane",
        ),
        (
            lambda r: save_figure(Figure(), "a.gif"),
            "a picture must be named .png, .pdf or .svg, not 'a.gif'",
        ),
    ],
)
def test_what_cannot_be_drawn(whole: Result, build: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(whole)  # type: ignore[operator]
    assert str(caught.value) == message
