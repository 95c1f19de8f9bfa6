"""Small scenes and the engine's results for them."""

from __future__ import annotations

from typing import Any

from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.result import Result
from conebeam.run import Engine
from conebeam.scene import Scene

POINT = {
    "kind": "point",
    "position_cm": (0.0, 0.0, -50.0),
    "field": {"kind": "rectangle", "width_cm": 4.0, "height_cm": 4.0},
    "spectrum": {"kind": "mono", "energy_kev": 60.0},
}


def bins(low: float, high: float, count: int) -> dict[str, float]:
    return {"low_cm": low, "high_cm": high, "count": count}


def dose_on(half: float, depth: float, n: int, nz: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "dose", "x_cm": bins(-half, half, n), "y_cm": bins(-half, half, n), "z_cm": bins(0.0, depth, nz),
        **more,
    }  # fmt: skip


def scene(**values: Any) -> Scene:
    return Scene(**{"histories": 20_000, "source": POINT, **values})


def run(made: Scene, threads: int = 1, **more: Any) -> tuple[Result, Engine]:
    engine = Engine(made, threads)
    origin = provenance(scene=made.to_toml(), seed=made.seed, versions=engine.versions)
    job = Job(**{"runner": engine, "provenance": origin, "plan": made.plan(), **more})
    return job.run(), engine
