"""Scenes: TOML and back, the examples, and every refusal as one sentence."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conebeam.errors import ConebeamError, ConfigError, GeometryError
from conebeam.geometry import Lattice
from conebeam.phantoms import write_voxels
from conebeam.scene import (
    BoxCell,
    DoseScorer,
    Monoenergetic,
    PencilSource,
    Scene,
    SpectrumFile,
    SphereCell,
    Voxels,
)

EXAMPLES = Path(__file__).parents[3] / "examples" / "conebeam"
DENSITIES = {"water": 1.0, "air": 1.205e-3, "bone": 1.85}


def values() -> dict[str, Any]:
    """A small valid scene."""
    return {
        "histories": 1000,
        "source": {
            "kind": "point",
            "position_cm": [0.0, 0.0, -100.0],
            "field": {"kind": "rectangle", "width_cm": 10.0, "height_cm": 10.0},
            "spectrum": {"kind": "mono", "energy_kev": 60.0},
        },
        "phantom": {"kind": "water_box"},
        "scorers": [
            {
                "kind": "dose",
                "x_cm": {"low_cm": -5.0, "high_cm": 5.0, "count": 10},
                "y_cm": {"low_cm": -5.0, "high_cm": 5.0, "count": 10},
                "z_cm": {"edges_cm": [0.0, 0.25, 0.75]},
                "curves": [{"name": "axis", "along": "z", "x_cm": [-1.0, 1.0]}],
                "regions": [
                    {
                        "name": "top",
                        "x_cm": [-1.0, 1.0],
                        "y_cm": [-1.0, 1.0],
                        "z_cm": [0.0, 0.25],
                    }
                ],
            }
        ],
    }


def changed(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    scene = copy.deepcopy(values())
    inner: Any = scene
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return scene


@pytest.mark.parametrize("name", ["water_box.toml", "tg195_case2.toml"])
def test_examples_are_valid_and_survive_writing(name: str) -> None:
    scene = Scene.load(EXAMPLES / name)
    again = Scene.loads(scene.to_toml())
    assert again.to_toml() == scene.to_toml()
    assert again.model_dump() == scene.model_dump()
    scene.check(DENSITIES)


def test_scenes_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Scene(**values()).seed = 2  # type: ignore[misc]


def test_defaults_and_plan() -> None:
    scene = Scene(**values())
    assert (scene.version, scene.seed, scene.plan().batches) == (1, 1, 64)
    assert Scene(**changed(("histories",), 1e9)).plan().batches == 1000
    assert Scene(**changed(("histories",), 7)).plan().batches == 7
    target = {"uncertainty": "0.5%", "region": "axis"}
    scene = scene.changed(target=target, histories=10**8)
    assert scene.target is not None
    assert scene.target.uncertainty == 0.005
    assert scene.plan().batches == 1000


def test_dose_without_bins_is_scored_on_2_5_mm() -> None:
    values_ = values()
    curve = {"name": "axis", "along": "z", "x_cm": [-1.0, 1.0], "y_cm": [-1.0, 1.0]}
    values_["scorers"] = [{"kind": "dose", "z_cm": {"edges_cm": [0.0, 1.0]}, "curves": [curve]}]
    scene = Scene(**values_)
    scene.check(DENSITIES)
    (scorer,) = scene.completed(DENSITIES).scorers
    assert isinstance(scorer, DoseScorer)
    x, y, z = scorer.edges()
    assert x == pytest.approx(np.linspace(-15.0, 15.0, 121))
    assert np.array_equal(x, y)
    assert z.tolist() == [0.0, 1.0]
    assert scene.scorers[0].names() == scorer.names() == ("dose", "axis")
    with pytest.raises(ConfigError) as caught:
        scene.scorers[0].edges()  # type: ignore[union-attr]
    assert str(caught.value) == ("scorer 'dose' must have bins along x, y and z; complete the scene first")
    bad = copy.deepcopy(values_)
    bad["scorers"][0]["curves"][0]["x_cm"] = [-1.1, 1.0]
    with pytest.raises(ConfigError, match=r"must lie on grid edges, not at -1\.1 cm"):
        Scene(**bad).check(DENSITIES)


def test_changing_validates_again() -> None:
    scene = Scene(**values())
    assert scene.changed(seed=7).seed == 7
    with pytest.raises(ConfigError, match=r"^histories must be greater than 0, not 0$"):
        scene.changed(histories=0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("histories",), 0, "histories must be greater than 0, not 0"),
        (("histories",), -5, "histories must be greater than 0, not -5"),
        (("histories",), 1.5, "histories must be a whole number, not 1.5"),
        (("histories",), "many", "histories must be a whole number, not 'many'"),
        (("batches",), 1001, "batches must lie in 1..1000 (the histories), not 1001"),
        (("seed",), -1, "seed must be at least 0, not -1"),
        (("version",), 2, "version must be 1 or older, not 2; upgrade conebeam"),
        (("hist",), 3, "a scene must not have the unknown key 'hist'; remove it"),
        (
            ("source", "field", "widht_cm"),
            3,
            "source.field must not have the unknown key 'widht_cm'; remove it",
        ),
        (("source",), None, "a scene must have the key 'source'; add it"),
        (("source", "spectrum"), None, "source must have the key 'spectrum'; add it"),
        (("phantom",), None, "a scene must have a phantom or cells, not neither"),
        (
            ("source", "kind"),
            "ring",
            "source must have a kind among 'point', 'parallel', 'pencil', not 'ring'",
        ),
        (("source", "kind"), None, "source must have a kind, not a table without it"),
        (
            ("source", "position_cm"),
            [0.0, 0.0, math.nan],
            "source.position_cm[2] must be a finite number, not nan",
        ),
        (
            ("source", "position_cm"),
            [0.0, 0.0],
            "source.position_cm must have 3 or more entries",
        ),
        (
            ("source", "position_cm"),
            [0.0, 0.0, 0.0],
            "source must not lie in the plane of its own field; move one of them",
        ),
        (
            ("source", "field", "width_cm"),
            3000.0,
            "source must have a field within 85 degrees of its axis, not 86.2; "
            "make the field smaller or move it away from the source",
        ),
        (
            ("source", "field", "width_cm"),
            -1,
            "source.field.width_cm must be greater than 0.0, not -1",
        ),
        (
            ("source", "field", "up"),
            [0.0, 0.0, 2.0],
            "source.field must have a normal and an up that are not parallel, "
            "not (0.0, 0.0, 1.0) and (0.0, 0.0, 2.0)",
        ),
        (
            ("source", "spectrum", "energy_kev"),
            200,
            "source.spectrum.energy_kev must be at most 150.0, not 200",
        ),
        (
            ("source", "spectrum"),
            {"kind": "csv", "file": "a.csv"},
            "source.spectrum must have the key 'bins'; add it",
        ),
        (
            ("source", "spectrum"),
            {"kind": "tube", "kvp": 100, "filters": ["Al"]},
            "source.spectrum.filters must read MATERIAL:THICKNESSmm such as 'Al:2.5mm', not 'Al'",
        ),
        (
            ("source", "spectrum"),
            {"kind": "tube", "kvp": 400},
            "source.spectrum.kvp must be at most 150.0, not 400",
        ),
        (
            ("phantom", "density_g_cm3"),
            -1.0,
            "phantom.density_g_cm3 must be at least 0.0, not -1.0",
        ),
        (
            ("phantom", "density_g_cm3"),
            math.nan,
            "phantom.density_g_cm3 must be a finite number, not nan",
        ),
        (
            ("materials",),
            {"gel": {"density_g_cm3": 1.0, "fractions": {"H": 0.1, "O": 0.8}}},
            "materials.gel must have mass fractions that sum to 1, not 0.9",
        ),
        (
            ("materials",),
            {"gel": {"density_g_cm3": 1.0}},
            "materials.gel must have either fractions or a formula",
        ),
        (("scorers",), [], "scorers must have 1 or more entries, not []"),
        (
            ("scorers", 0, "x_cm"),
            {"low_cm": 1.0, "high_cm": -1.0, "count": 3},
            "scorers[0].x_cm must have low_cm below high_cm, not 1 and -1",
        ),
        (
            ("scorers", 0, "z_cm"),
            {"edges_cm": [0.0, 2.0, 1.0]},
            "scorers[0].z_cm must have at least two edges_cm that rise from bin to bin",
        ),
        (
            ("scorers", 0, "z_cm"),
            {"low_cm": 0.0},
            "scorers[0].z_cm must have low_cm, high_cm and count, or edges_cm",
        ),
        (
            ("scorers", 0, "curves", 0, "x_cm"),
            [-0.9, 1.0],
            "the x limits of 'axis' must lie on grid edges, not at -0.9 cm; the nearest edge is -1 cm",
        ),
        (
            ("scorers", 0, "curves", 0, "along"),
            "w",
            "scorers[0].curves[0].along must be 'x', 'y' or 'z', not 'w'",
        ),
        (
            ("scorers", 0, "curves", 0, "name"),
            "dose",
            "scorer names must be unique, not twice 'dose'; name one anew",
        ),
        (
            ("scorers", 0, "regions"),
            2 * [{"name": "top", "x_cm": [-1.0, 1.0], "y_cm": [-1.0, 1.0], "z_cm": [0.0, 0.25]}],
            "scorers[0].regions must have names that are unique, not twice 'top'; name one anew",
        ),
        (
            ("target",),
            {"uncertainty": "0.5%", "region": "nowhere"},
            "target.region must be one of axis, dose, dose regions, dose regions.top, not 'nowhere'",
        ),
        (
            ("target",),
            {"uncertainty": "a few", "region": "axis"},
            "target.uncertainty must be a number or a percentage such as '0.5%'",
        ),
        (
            ("target",),
            {"uncertainty": 2, "region": "axis"},
            "target.uncertainty must be below 1.0, not 2",
        ),
    ],
)
def test_bad_scenes_are_refused(path: tuple[Any, ...], value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Scene(**changed(path, value))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("source", "field", "centre_cm"),
            [0.0, 100.0, 0.0],
            "the source's field must meet the phantom, and no ray from (0, 0, -100) cm through "
            "the field at (0, 100, 0) cm does; move the source, the field or the phantom",
        ),
        (
            ("source", "turn"),
            {"angle_deg": 90.0, "isocentre_cm": [0.0, 0.0, -100.0]},
            "the source's field must meet the phantom, and no ray from (0, 0, -100) cm through "
            "the field at (100, 0, -100) cm does; move the source, the field or the phantom",
        ),
        (
            ("phantom", "material"),
            "unobtainium",
            "material 'unobtainium' must be known or have a density_g_cm3 here; known are air, bone, water",
        ),
        (
            ("phantom",),
            {"kind": "water_box", "material": "unobtainium", "density_g_cm3": 3.0},
            "material 'unobtainium' must be in the library or under [materials], and is not; "
            "known are air, bone, water",
        ),
        (
            ("phantom",),
            {"kind": "voxels", "file": "none.npz"},
            "file 'none.npz' named in the scene must be readable, and is not: No such file or directory",
        ),
        (
            ("scorers", 0, "z_cm"),
            {"low_cm": 40.0, "high_cm": 50.0, "count": 2},
            None,
        ),
    ],
)
def test_scenes_that_make_no_sense_together(
    path: tuple[Any, ...], value: object, message: str | None
) -> None:
    scene = changed(path, value)
    if message is None:
        scene["scorers"][0]["regions"] = []
        message = (
            "scorers[0] 'dose' must lie where cells are, between (-15, -15, 0) and "
            "(15, 15, 30) cm, not between (-5, -5, 40) and (5, 5, 50) cm"
        )
    with pytest.raises(ConebeamError) as caught:
        Scene(**scene).check(DENSITIES)
    assert str(caught.value) == message


def test_overlapping_cells_are_refused_and_priority_heals() -> None:
    ball = {"kind": "sphere", "name": "ball", "material": "bone", "radius_cm": 2.0}
    with pytest.raises(GeometryError, match=r"^cells of one priority must not overlap, not 'phan"):
        Scene(**changed(("cells",), [ball])).check(DENSITIES)
    Scene(**changed(("cells",), [{**ball, "priority": 1}])).check(DENSITIES)


def test_a_room_around_the_phantom_does_not_count_as_meeting_it() -> None:
    scene = changed(("source", "field", "centre_cm"), [0.0, 100.0, 0.0])
    scene["cells"] = [
        {"kind": "box", "name": "room", "material": "air", "size_cm": [900.0] * 3, "priority": -1}
    ]
    with pytest.raises(ConfigError, match=r"^the source's field must meet the phantom"):
        Scene(**scene).check(DENSITIES)


def test_every_shape_becomes_its_cell() -> None:
    common = {"material": "bone", "centre_cm": [1.0, 2.0, 3.0], "priority": 1}
    shapes = [
        {"kind": "box", "name": "a", "size_cm": [1, 2, 3], "rotation_deg": [0, 0, 90]},
        {"kind": "sphere", "name": "b", "radius_cm": 1, "priority": 2},
        {"kind": "ellipsoid", "name": "c", "semi_axes_cm": [1, 2, 3], "priority": 3},
        {"kind": "cylinder", "name": "d", "radius_cm": 1, "height_cm": 2, "priority": 4},
        {"kind": "cone", "name": "e", "base_radius_cm": 1, "height_cm": 2, "priority": 5},
        {"kind": "wedge", "name": "f", "size_cm": [1, 2, 3], "priority": 6},
    ]
    scene = Scene(**changed(("cells",), [{**common, **shape} for shape in shapes]))
    geometry = scene.check(DENSITIES)
    assert [cell.name for cell in geometry.cells] == ["phantom", *"abcdef"]
    # Turned by 90 degrees about z, x and y sizes change places.
    assert np.ptp(geometry.cells[1].bounds(), axis=0) == pytest.approx([2.0, 1.0, 3.0])
    assert scene.lone_lattice(DENSITIES) is None
    assert Scene.loads(scene.to_toml()).to_toml() == scene.to_toml()


def test_phantoms_that_are_lattices_take_the_short_way() -> None:
    lattice = Scene(**values()).lone_lattice(DENSITIES)
    assert lattice is not None
    assert lattice.shape == (1, 1, 1)
    slabs = {
        "kind": "slabs",
        "layers": [
            {"material": "water", "thickness_cm": 2.0},
            {"material": "bone", "thickness_cm": 1.0, "density_g_cm3": 1.5},
            {"material": "water", "thickness_cm": 7.0},
        ],
    }
    lattice = Scene(**changed(("phantom",), slabs)).lone_lattice(DENSITIES)
    assert lattice is not None
    assert lattice.density_g_cm3.ravel().tolist() == [1.0, 1.5, 1.0]
    assert lattice.z_cm.tolist() == [0.0, 2.0, 3.0, 10.0]


def test_voxel_phantoms_are_read_beside_the_scene(tmp_path: Path) -> None:
    lattice = Lattice(
        x_cm=[-1.0, 0.0, 1.0], y_cm=[-1.0, 1.0], z_cm=[0.0, 2.0],
        material=np.array([[[0]], [[1]]]), density_g_cm3=np.array([[[1.0]], [[1.9]]]),
        materials=("water", "bone"),
    )  # fmt: skip
    write_voxels(lattice, tmp_path / "ct.npz")
    scene = values()
    scene["phantom"] = {"kind": "voxels", "file": "ct.npz", "rotation_deg": [0, 0, 180]}
    scene["scorers"][0]["regions"] = []
    (tmp_path / "scene.toml").write_text(Scene(**scene).to_toml())
    loaded = Scene.load(tmp_path / "scene.toml")
    geometry = loaded.check(DENSITIES)
    assert geometry.materials == ("water", "bone")
    assert geometry.locate(np.array([[0.5, 0.0, 1.0]])).tolist() == [0]
    assert list(loaded.files()) == ["ct.npz"]
    assert len(loaded.files()["ct.npz"]) == 64
    assert loaded.lone_lattice(DENSITIES) is None  # it is turned
    assert isinstance(loaded.phantom, Voxels)


def test_files_of_a_scene_are_identified_by_content(tmp_path: Path) -> None:
    scene = values()
    scene["source"]["spectrum"] = {"kind": "csv", "file": "s.csv", "bins": "centres"}
    (tmp_path / "s.csv").write_text("1,2\n")
    loaded = Scene.loads(Scene(**scene).to_toml(), folder=tmp_path)
    before = loaded.files()["s.csv"]
    (tmp_path / "s.csv").write_text("1,3\n")
    assert loaded.files()["s.csv"] != before
    assert isinstance(loaded.source.spectrum, SpectrumFile)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"histories = ", "a scene must be valid TOML, and is not: "),
        (b"\xff\xfe", "must be UTF-8 text"),
    ],
)
def test_files_that_are_no_scenes(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "scene.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        Scene.load(path)
    with pytest.raises(ConfigError, match=r"must be readable, and is not: No such file"):
        Scene.load(tmp_path / "none.toml")


def test_parts_built_in_python_are_validated_too() -> None:
    with pytest.raises(ConfigError) as caught:
        Monoenergetic(energy_kev=0.0)
    assert str(caught.value) == "energy_kev must be at least 1.0, not 0.0"
    with pytest.raises(ConfigError) as caught:
        SphereCell(name="a", material="water", radius_cm=1.0, size=3)  # type: ignore[call-arg]
    assert str(caught.value) == "a sphere cell must not have the unknown key 'size'; remove it"
    with pytest.raises(ConfigError) as caught:
        PencilSource(position_cm=(0, 0, 0), direction=(0, 0, 0), spectrum=Monoenergetic(energy_kev=60))
    assert str(caught.value) == "direction must not vanish, not (0.0, 0.0, 0.0)"
    assert BoxCell(name="a", material="w", size_cm=(1, 1, 1)).cell().name == "a"
