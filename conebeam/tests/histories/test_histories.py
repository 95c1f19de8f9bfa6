"""The three history loops: conservation, attenuation, and one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import POINT, dose_on, run, scene
from scipy import stats

from conebeam import materials
from conebeam.geometry import Lattice, regular_edges
from conebeam.phantoms import write_voxels
from conebeam.result import Quantity
from conebeam.transport.physics import TOTAL, build_physics, interpolated

BOX = {"kind": "water_box", "size_cm": (10.0, 10.0, 10.0)}
SLABS = {
    "kind": "slabs", "width_cm": 10.0, "height_cm": 10.0,
    "layers": [
        {"material": "water", "thickness_cm": 2.0},
        {"material": "lung", "thickness_cm": 3.0},
        {"material": "cortical bone", "thickness_cm": 1.0},
        {"material": "water", "thickness_cm": 4.0},
    ],
}  # fmt: skip


def slab_cells() -> list[dict[str, Any]]:
    cells, at = [], 0.0
    for number, (material, thickness) in enumerate(
        (("water", 2.0), ("lung", 3.0), ("cortical bone", 1.0), ("water", 4.0))
    ):
        cells.append({
            "kind": "box", "name": f"layer {number}", "material": material,
            "size_cm": (10.0, 10.0, thickness), "centre_cm": (0.0, 0.0, at + 0.5 * thickness),
        })  # fmt: skip
        at += thickness
    return cells


def deviation(a: Quantity, b: Quantity) -> float:
    """Chi-squared over degrees of freedom of two independent results, as a number of σ."""
    both = (a.values > 0.0) & (b.values > 0.0) & (a.sigma < 0.2) & (b.sigma < 0.2)
    assert both.sum() > 5
    difference = (a.values - b.values)[both]
    variance = (a.values * a.sigma)[both] ** 2 + (b.values * b.sigma)[both] ** 2
    chi2, n = float(np.sum(difference**2 / variance)), int(both.sum())
    # σ from batches is itself uncertain: chi-squared becomes a little wider.
    return (chi2 - n) / np.sqrt(2.0 * n * 1.3)


PATHS = {
    "box": {"phantom": BOX},
    "lattice": {"phantom": SLABS},
    "woodcock": {"phantom": SLABS},
    "cells": {"cells": slab_cells()},
}


@pytest.mark.parametrize("path", PATHS)
def test_energy_is_conserved_in_every_history(path: str) -> None:
    estimator = "track_length" if path in ("lattice",) else "deposit"
    made = scene(**PATHS[path], scorers=[dose_on(5.0, 10.0, 4, 10, estimator=estimator, per="photon")])
    result, engine = run(made)
    assert engine.path == path
    assert engine.balance.worst < 1e-12
    whole = engine.balance
    assert whole.emitted_kev == pytest.approx(whole.deposited_kev + whole.escaped_kev, rel=1e-12)
    if estimator == "deposit":
        # What the grid holds is what was deposited: the grid covers the phantom.
        scored = result["dose"]
        grams = np.asarray(result.scored[0].factor) ** -1.0
        total = float(np.sum(result.tallies["dose"].total()))
        assert grams.min() > 0.0
        assert total == pytest.approx(whole.deposited_kev, rel=1e-12)
        assert scored.values.min() >= 0.0


@pytest.mark.parametrize("energy", [30.0, 100.0])
def test_fluorescence_is_conserved_too(energy: float) -> None:
    made = scene(
        source={**POINT, "spectrum": {"kind": "mono", "energy_kev": energy}},
        phantom={"kind": "water_box", "size_cm": (10, 10, 0.05), "material": "Pb"},
        scorers=[dose_on(5.0, 0.05, 2, 1, estimator="deposit")],
    )
    _, engine = run(made)
    assert engine.balance.worst < 1e-12
    # Lead gives back a good part as K lines at 100 keV, hardly anything at 30 keV.
    share = engine.balance.escaped_kev / engine.balance.emitted_kev
    assert (share > 0.2) if energy > 88.0 else (share < 0.03)


@pytest.mark.parametrize("path", ["box", "lattice", "cells"])
def test_track_length_conserves_energy_in_the_mean(path: str) -> None:
    made = scene(
        **PATHS[path], histories=120_000,
        scorers=[{
            "kind": "energy", "name": "all",
            "regions": [{"name": "phantom", "x_cm": (-5, 5), "y_cm": (-5, 5), "z_cm": (0, 10)}],
        }],
    )  # fmt: skip
    result, engine = run(made, 2)
    deposited = engine.balance.deposited_kev / result.histories
    ours = result["all"]
    # The deposits' own σ, from a share p of 60 keV photons, is below 0.2 %.
    assert ours.values[0] == pytest.approx(deposited, rel=4.0 * float(np.hypot(ours.sigma[0], 0.0015)))


@pytest.mark.parametrize("energy", [20.0, 60.0, 140.0])
@pytest.mark.parametrize("path", ["lattice", "woodcock", "cells"])
def test_a_narrow_beam_is_attenuated_exponentially(path: str, energy: float) -> None:
    # A pinhole far behind sees hardly anything but what did not interact.
    plane = {"kind": "circle", "centre_cm": (0.0, 0.0, 500.0), "diameter_cm": 2.0}
    scorers: list[dict[str, Any]] = [
        {"kind": "fluence", "plane": plane, "low_kev": energy - 0.5, "high_kev": energy + 0.5, "count": 1}
    ]
    if path == "lattice":
        scorers.append(dose_on(5.0, 10.0, 1, 1, per="photon"))
    histories = 60_000
    result, engine = run(
        scene(
            **PATHS[path], histories=histories, scorers=scorers,
            source={
                "kind": "pencil", "position_cm": (0.0, 0.0, -50.0), "spectrum": {"kind": "mono", "energy_kev": energy},
            },
        ),
        2,
    )  # fmt: skip
    assert engine.path == path
    layers = (("water", 6.0), ("lung", 3.0), ("cortical bone", 1.0))
    tables = build_physics([materials.material(name) for name, _ in layers])
    depth = sum(
        cm * materials.material(name).density_g_cm3 * interpolated(tables, i, TOTAL, np.array([energy]))[0]
        for i, (name, cm) in enumerate(layers)
    )
    expected = float(np.exp(-depth))
    found = float(result["fluence"].values[0]) * np.pi
    # Binomial, one in 30,000 to fail; coherent scatter into the pinhole is below 1e-5.
    assert found == pytest.approx(expected, abs=4.2 * np.sqrt(expected * (1.0 - expected) / histories) + 1e-5)


@pytest.fixture(scope="module")
def reference() -> Quantity:
    """Depth dose in slabs by deposits along Woodcock's flights: the oracle."""
    return depth_dose("woodcock", histories=1_500_000, seed=11)


def depth_dose(path: str, *, histories: int, seed: int) -> Quantity:
    estimator = "deposit" if path == "woodcock" else "track_length"
    curve = {"name": "depth", "along": "z", "x_cm": (-2.5, 2.5), "y_cm": (-2.5, 2.5)}
    made = scene(
        **PATHS[path], histories=histories, seed=seed,
        scorers=[dose_on(5.0, 10.0, 4, 20, estimator=estimator, curves=[curve])],
    )  # fmt: skip
    result, engine = run(made, 2)
    assert engine.path == path
    return result["depth"]


@pytest.mark.parametrize("path", ["lattice", "cells"])
def test_walks_agree_with_deposits_by_woodcock(path: str, reference: Quantity) -> None:
    ours = depth_dose(path, histories=150_000, seed=12)
    assert ours.sigma.max() < reference.sigma.max()
    assert abs(deviation(ours, reference)) < 4.0


def test_the_box_agrees_with_the_same_box_as_a_lattice_and_as_a_cell() -> None:
    found = []
    for number, values in enumerate((
        {"phantom": BOX},
        {"phantom": {"kind": "slabs", "width_cm": 10.0, "height_cm": 10.0,
                     "layers": [{"material": "water", "thickness_cm": t} for t in (4.0, 6.0)]}},
        {"cells": [{"kind": "box", "name": "b", "material": "water", "size_cm": (10, 10, 10),
                    "centre_cm": (0, 0, 5)}]},
    )):  # fmt: skip
        made = scene(**values, histories=150_000, seed=21 + number, scorers=[dose_on(5.0, 10.0, 10, 10)])
        result, engine = run(made, 2)
        assert engine.path == ("box", "lattice", "cells")[number]
        found.append(result["dose"])
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert abs(deviation(found[a], found[b])) < 4.0


def voxel_ball(path: Path) -> None:
    """A ball of bone in water, in 1 mm voxels."""
    edges = regular_edges(low_cm=-4.0, pitch_cm=0.1, count=80)
    x = 0.5 * (edges[1:] + edges[:-1])
    ball = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2 < 4.0
    write_voxels(
        Lattice(
            x_cm=edges, y_cm=edges, z_cm=edges, material=ball.astype(np.uint8),
            density_g_cm3=np.where(ball, 1.92, 1.0), materials=("water", "cortical bone"),
        ),
        path,
    )  # fmt: skip


def test_a_voxel_lattice_agrees_with_the_same_phantom_of_quadrics(tmp_path: Path) -> None:
    voxel_ball(tmp_path / "ball.npz")
    source = {**POINT, "field": {"kind": "rectangle", "centre_cm": (0, 0, -4), "width_cm": 6, "height_cm": 6}}
    parts = [("behind", (2.0, 4.0)), ("ball", (-1.0, 1.0)), ("before", (-4.0, -2.0))]
    scorer = {
        "kind": "energy", "name": "parts",
        "regions": [{"name": n, "x_cm": (-1, 1), "y_cm": (-1, 1), "z_cm": z} for n, z in parts],
    }  # fmt: skip
    quadrics = [
        {"kind": "box", "name": "water", "material": "water", "size_cm": (8, 8, 8)},
        {"kind": "sphere", "name": "ball", "material": "cortical bone", "radius_cm": 2.0, "priority": 1},
    ]
    values = {"source": source, "scorers": [scorer], "histories": 200_000}
    voxels, one = run(scene(phantom={"kind": "voxels", "file": str(tmp_path / "ball.npz")}, **values), 2)
    solids, two = run(scene(cells=quadrics, seed=2, **values), 2)
    assert (one.path, two.path) == ("lattice", "cells")
    a, b = voxels["parts"], solids["parts"]
    # The voxels' ball is 0.1 % off in volume; the rest is statistics.
    assert a.values == pytest.approx(b.values, rel=4.0 * float(np.hypot(a.sigma, b.sigma).max()) + 2e-3)


def test_a_turned_scene_gives_the_turned_dose(tmp_path: Path) -> None:
    voxel_ball(tmp_path / "ball.npz")
    # Everything turned by 90° about y: the source shines along x.
    straight = {
        "source": {**POINT, "field": {"kind": "rectangle", "width_cm": 4, "height_cm": 2}},
        "phantom": {"kind": "voxels", "file": str(tmp_path / "ball.npz"), "translation_cm": (0.5, 0, 0)},
    }
    turned = {
        "source": {**straight["source"], "turn": {"angle_deg": 90.0, "axis": (0, 1, 0)}},
        "phantom": {**straight["phantom"], "rotation_deg": (0, 90, 0), "translation_cm": (0, 0, -0.5)},
    }
    regions = [((-1, 0), (-1, 0)), ((0, 1), (-1, 0)), ((-1, 0), (1, 2)), ((1, 3), (-3, -2))]

    def scorer(swap: bool) -> dict[str, Any]:
        boxes = []
        for number, (x, z) in enumerate(regions):
            # x → −z, z → x.
            there = {"x_cm": z, "z_cm": (-x[1], -x[0])} if swap else {"x_cm": x, "z_cm": z}
            boxes.append({"name": str(number), "y_cm": (-1, 1), **there})
        return {"kind": "energy", "name": "parts", "regions": boxes}

    first, one = run(scene(**straight, scorers=[scorer(False)], histories=150_000), 2)
    second, two = run(scene(**turned, scorers=[scorer(True)], histories=150_000, seed=5), 2)
    assert (one.path, two.path) == ("lattice", "cells")
    assert abs(deviation_of(first["parts"], second["parts"])) < 4.5


def deviation_of(a: Quantity, b: Quantity) -> float:
    variance = (a.values * a.sigma) ** 2 + (b.values * b.sigma) ** 2
    return float(np.max(np.abs(a.values - b.values) / np.sqrt(variance)))


def test_mirrored_halves_agree() -> None:
    made = scene(phantom=BOX, histories=200_000, scorers=[dose_on(5.0, 10.0, 2, 5)])
    dose = run(made, 2)[0]["dose"]
    quarters = dose.values.reshape(4, 5), (dose.values * dose.sigma).reshape(4, 5)
    mean = quarters[0].mean(axis=0)
    chi2 = float(np.sum((quarters[0] - mean) ** 2 / quarters[1] ** 2))
    assert stats.chi2.sf(chi2, 15) > 1e-4
    assert stats.chi2.sf(chi2, 15) < 1.0 - 1e-4


def test_a_profile_longer_than_its_room_is_scored_in_pieces(
    tmp_path: Path,
) -> None:
    # 5,000 voxels of alternating density along the beam: more than one profile holds.
    count = 5000
    edges = regular_edges(low_cm=0.0, pitch_cm=10.0 / count, count=count)
    density = np.where(np.arange(count) % 2, 0.5, 1.5).reshape(1, 1, count)
    write_voxels(
        Lattice(
            x_cm=np.array([-5.0, 5.0]), y_cm=np.array([-5.0, 5.0]), z_cm=edges,
            material=np.zeros((1, 1, count), dtype=np.uint8), density_g_cm3=density, materials=("water",),
        ),
        tmp_path / "fine.npz",
    )  # fmt: skip
    phantom = {"kind": "voxels", "file": str(tmp_path / "fine.npz")}
    air = {"kind": "box", "name": "air", "material": "air", "size_cm": (20, 20, 20), "priority": -1}
    curve = {"name": "depth", "along": "z", "x_cm": (-2.5, 2.5), "y_cm": (-2.5, 2.5)}
    scorers = [dose_on(5.0, 10.0, 4, 10, curves=[curve])]
    fine, engine = run(scene(phantom=phantom, cells=[air], histories=8_000, scorers=scorers), 2)
    assert engine.path == "cells"
    coarse, _ = run(scene(phantom=BOX, histories=60_000, seed=2, scorers=scorers), 2)
    assert abs(deviation(fine["depth"], coarse["depth"])) < 4.5


@pytest.mark.parametrize("path", ["box", "lattice", "woodcock", "cells"])
@pytest.mark.parametrize(
    ("thickness", "front"), [(30.0, 0.0), (20.1, 0.0), (10.05, 0.1), (0.6, -5.3), (10.2, 100.0), (1.3, 0.1)]
)
def test_a_plane_on_the_face_counts_every_photon_once(path: str, thickness: float, front: float) -> None:
    """Where the phantom's rounded coordinates put its face must not matter."""
    field = {"kind": "rectangle", "width_cm": 4.0, "height_cm": 4.0, "centre_cm": (0.0, 0.0, front - 50.0)}
    source = {"kind": "parallel", "field": field, "spectrum": {"kind": "mono", "energy_kev": 60.0}}
    plane = {"kind": "rectangle", "width_cm": 10.0, "height_cm": 10.0, "centre_cm": (0.0, 0.0, front)}
    fluence = {
        "kind": "fluence",
        "low_kev": 0.0,
        "high_kev": 100.0,
        "count": 100,
        "per": "fluence",
        "plane": plane,
    }
    scorers = [fluence]
    if path == "lattice":  # which a score along tracks asks for
        scorers.append(
            {
                "kind": "energy",
                "regions": [
                    {"name": "part", "x_cm": (-1.0, 1.0), "y_cm": (-1.0, 1.0), "z_cm": (front, front + 0.5)}
                ],
            }
        )
    half = {"material": "air", "thickness_cm": 0.5 * thickness}
    size = (30.0, 30.0, thickness)
    phantom: dict[str, Any] = {
        "box": {"phantom": {"kind": "water_box", "size_cm": size, "front_cm": front, "density_g_cm3": 1e-9}},
        "cells": {
            "cells": [
                {
                    "kind": "box", "name": "block", "material": "air", "size_cm": size,
                    "centre_cm": (0.0, 0.0, front + 0.5 * thickness),
                }
            ]
        },
    }.get(path, {"phantom": {"kind": "slabs", "width_cm": 30.0, "height_cm": 30.0, "front_cm": front, "layers": [half, half]}})  # fmt: skip
    result, engine = run(scene(source=source, scorers=scorers, histories=60, **phantom))
    assert engine.path == path
    assert result["fluence"].values.sum() * 100.0 / 16.0 == pytest.approx(1.0, abs=0.1)


def voxel_file(path: Path, materials: tuple[str, ...], number: int, count: int) -> dict[str, Any]:
    edges = regular_edges(low_cm=-8.0, pitch_cm=16.0 / count, count=count)
    shape = (count, count, count)
    lattice = Lattice(
        x_cm=edges, y_cm=edges, z_cm=edges, material=np.full(shape, number), density_g_cm3=np.ones(shape),
        materials=materials,
    )  # fmt: skip
    write_voxels(lattice, path)
    return {"phantom": {"kind": "voxels", "file": str(path)}}


def deposited(phantom: dict[str, Any]) -> float:
    box = {"name": "all", "x_cm": (-8.0, 8.0), "y_cm": (-8.0, 8.0), "z_cm": (-8.0, 8.0)}
    source = {**POINT, "spectrum": {"kind": "mono", "energy_kev": 40.0}}
    result, _ = run(
        scene(source=source, scorers=[{"kind": "energy", "regions": [box]}], histories=4000, **phantom)
    )
    return float(result["energy"].values[0])


def test_labels_of_one_material_are_one_material(tmp_path: Path) -> None:
    once = deposited(voxel_file(tmp_path / "once.npz", ("water", "cortical bone"), 1, 4))
    assert deposited(voxel_file(tmp_path / "twice.npz", ("water", "water", "cortical bone"), 2, 4)) == once
    water = deposited(voxel_file(tmp_path / "water.npz", ("water",), 0, 4))
    assert deposited(voxel_file(tmp_path / "second.npz", ("water", "water"), 1, 4)) == water
    assert once > 1.2 * water


def test_one_voxel_has_the_material_that_it_names(tmp_path: Path) -> None:
    whole = deposited(voxel_file(tmp_path / "whole.npz", ("cortical bone",), 0, 1))
    second = deposited(voxel_file(tmp_path / "second.npz", ("air", "cortical bone"), 1, 1))
    assert second == pytest.approx(whole, rel=0.02)
