"""The engine: the same bits however it is run, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import POINT, dose_on, run, scene

from conebeam.errors import ConebeamError, ConfigError
from conebeam.job import Target
from conebeam.result import Result, merge
from conebeam.run import Engine

TUBE_LIKE = {
    **POINT,
    "spectrum": {"kind": "csv", "file": "spectrum.csv", "bins": "centres"},
}
PHANTOMS: dict[str, dict[str, Any]] = {
    "box": {"phantom": {"kind": "water_box", "size_cm": (10, 10, 10)}},
    "lattice": {
        "phantom": {
            "kind": "slabs", "width_cm": 10, "height_cm": 10,
            "layers": [{"material": "bone", "thickness_cm": 1}, {"material": "lung", "thickness_cm": 9}],
        }
    },
    "cells": {
        "cells": [
            {"kind": "cylinder", "name": "rod", "material": "Al", "radius_cm": 3, "height_cm": 10,
             "centre_cm": (0, 0, 5), "rotation_deg": (10, 0, 0)},
        ]
    },
}  # fmt: skip


def made(kind: str, **values: Any) -> Any:
    plane = {"kind": "rectangle", "centre_cm": (0, 0, 12), "width_cm": 10, "height_cm": 10}
    scorers = [
        dose_on(5.0, 10.0, 5, 10),
        {"kind": "fluence", "plane": plane, "count": 20},
        {"kind": "air_kerma", "plane": plane},
    ]
    return scene(**PHANTOMS[kind], **{"histories": 6000, "scorers": scorers, **values})


@pytest.mark.parametrize("kind", PHANTOMS)
def test_threads_change_nothing(kind: str) -> None:
    digests = {run(made(kind), threads)[0].digest() for threads in (1, 2, 5)}
    assert len(digests) == 1


@pytest.mark.parametrize("kind", PHANTOMS)
def test_parts_merged_in_any_order_are_one_run(kind: str) -> None:
    whole, _ = run(made(kind))
    parts = [run(made(kind), 2, batches=span)[0] for span in ((40, 64), (0, 7), (7, 40))]
    assert merge(parts).digest() == whole.digest()


def test_seeds_differ_and_histories_do_not_depend_on_batches() -> None:
    one, _ = run(made("box"))
    other, _ = run(made("box", seed=2))
    assert one.digest() != other.digest()
    regrouped, _ = run(made("box", batches=50))
    # The same histories, summed in other groups: equal but for rounding.
    assert regrouped["dose"].values == pytest.approx(one["dose"].values, rel=1e-11)


def test_sigma_is_what_repetition_shows() -> None:
    results = [run(made("box", seed=seed))[0]["dose"] for seed in range(1, 31)]
    values = np.array([r.values for r in results])
    claimed = np.sqrt(np.mean(np.array([(r.values * r.sigma) ** 2 for r in results]), axis=0))
    bright = values.mean(axis=0) > 0.3 * values.mean(axis=0).max()
    ratio = float(np.mean(values.std(axis=0, ddof=1)[bright] ** 2) / np.mean(claimed[bright] ** 2))
    assert ratio == pytest.approx(1.0, abs=0.25)


SCRIPT = """
import json, sys
sys.path[:0] = [{tests!r}]
from test_run_scene import made_for_script
from engines import run
result, engine = run(made_for_script({kind!r}))
print(json.dumps({{"dose": result["dose"].values.ravel().tolist(), "fluence": result["fluence"].values.tolist(),
                   "worst": engine.balance.worst, "collisions": engine.balance.collisions}}))
"""


@pytest.mark.parametrize("kind", PHANTOMS)
def test_without_compilation_histories_are_the_same(kind: str, tmp_path: Path) -> None:
    helper = tmp_path / "test_run_scene.py"
    helper.write_text(
        "import json\nfrom conebeam.scene import Scene\n"
        f"TOML = {made(kind, histories=24, batches=12).to_toml()!r}\n"
        "def made_for_script(kind):\n    return Scene.loads(TOML)\n"
    )
    found = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(tmp_path)}
        script = SCRIPT.format(tests=str(Path(__file__).parent), kind=kind)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    compiled, plain = found
    assert compiled["collisions"] == plain["collisions"]
    for name in ("dose", "fluence"):
        largest = max(compiled[name])
        assert plain[name] == pytest.approx(compiled[name], rel=1e-4, abs=1e-5 * largest)
    assert plain["worst"] < 1e-12


def test_an_error_in_a_thread_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(made("box"), 2)

    def fails(*_: object) -> None:
        raise ZeroDivisionError("in a kernel")

    monkeypatch.setattr(engine, "_kernel", fails)
    with pytest.raises(ZeroDivisionError, match="in a kernel"):
        list(engine.batches([(0, 0, 10), (1, 10, 20)]))


def test_closing_ends_the_threads_within_a_slice() -> None:
    engine = Engine(made("box", histories=10**9), 2)
    before = threading.active_count()
    stream = engine.batches([(0, 0, 100), (1, 100, 10**9), (2, 10**9, 2 * 10**9)])
    # A small batch first: what follows runs for hours if nobody ends it.
    assert next(stream).batch == 0
    assert threading.active_count() == before + 2
    stream.close()
    assert threading.active_count() == before


def test_a_batch_stops_in_the_middle() -> None:
    engine = Engine(made("box"), 1)
    stop = threading.Event()
    stop.set()
    assert engine.one(0, 0, 10**9, stop=stop) is None


def test_a_target_ends_a_run() -> None:
    region = {"name": "axis", "x_cm": (-1, 1), "y_cm": (-1, 1), "z_cm": (0, 2)}
    target = {"uncertainty": "2%", "region": "dose regions.axis"}
    wanted = made(
        "box", histories=2_000_000, target=target, scorers=[dose_on(5.0, 10.0, 5, 10, regions=[region])]
    )
    aim = Target(uncertainty=0.02, region="dose regions.axis")
    result: Result = run(wanted, 2, target=aim)[0]
    assert result["dose regions"].sigma[0] <= 0.02
    assert 30 <= len(result.done) < wanted.plan().batches
    assert result.digest() == run(wanted, 1, target=aim)[0].digest()


def test_normalisations_belong_together() -> None:
    photon, engine = run(made("box", scorers=[dose_on(5.0, 10.0, 5, 10, per="photon")]))
    fluence, _ = run(made("box"))
    assert engine.field_area_cm2 == 16.0
    assert fluence["dose"].values == pytest.approx(16.0 * photon["dose"].values, rel=1e-12)
    assert (fluence["dose"].unit, fluence["dose"].per) == ("Gy cm2", "mean fluence over the field")
    assert (photon["dose"].unit, photon["dose"].per) == ("Gy", "photon emitted")


@pytest.mark.parametrize(("energies", "sentence"), [
    ("1,50", "'muen.csv' must hold coefficients up to the 60 keV of the source, not up to 50; "
             "energies are in keV, those of NIST's tables in MeV"),
    ("0.001,0.15", "'muen.csv' must hold coefficients up to the 60 keV of the source, not up to 0.15; "
                   "energies are in keV, those of NIST's tables in MeV"),
    ("1,59.75", None),
    ("1,3.2,3.2,150", None),
])  # fmt: skip
def test_coefficients_of_air_cover_the_spectrum(
    energies: str, sentence: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows at one energy are the two sides of an edge."""
    monkeypatch.chdir(tmp_path)
    Path("muen.csv").write_text("keV,muen\n" + "\n".join(f"{e},{0.03}" for e in energies.split(",")) + "\n")
    plane = {"kind": "rectangle", "centre_cm": (0, 0, -1), "width_cm": 10, "height_cm": 10}
    kerma = {"kind": "air_kerma", "plane": plane, "muen_csv": "muen.csv"}
    if sentence is None:
        result, _ = run(made("box", scorers=[kerma], histories=64))
        assert result["air kerma"].values[0] * 100.0 == pytest.approx(60.0 * 0.03 * 1.602176634e-13, rel=1e-3)
    else:
        with pytest.raises(ConebeamError) as caught:
            Engine(made("box", scorers=[kerma]), 1)
        assert str(caught.value) == sentence


PENCIL = {"kind": "pencil", "position_cm": (0, 0, -10), "spectrum": POINT["spectrum"]}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Engine(made("box", source=PENCIL), 1),
            "scorers of a pencil source must be per 'photon', not per 'fluence'; a line has no area to spread over",
        ),
        (lambda: Engine(made("box"), -1), "threads must be at least 0 (0 for all cores), not -1"),
        (
            lambda: Engine(
                made(
                    "box",
                    source={**POINT, "field": {"kind": "circle", "centre_cm": (30, 0, 0), "diameter_cm": 1}},
                ),
                1,
            ),
            "the source's field must meet the phantom, and no ray from (0, 0, -50) cm through the field at "
            "(30, 0, 0) cm does; move the source, the field or the phantom",
        ),
    ],
)
def test_impossible_runs_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ConebeamError) as caught:
        build()
    assert str(caught.value) == message


def test_histories_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"^histories must be greater than 0, not 0$"):
        made("box", histories=0)
