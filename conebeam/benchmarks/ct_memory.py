"""Peak memory of dose in a large CT: 512×512×256 voxels, two threads.

    python benchmarks/ct_memory.py coarse|full HISTORIES

``coarse`` scores on a 2.5 mm grid, ``full`` on the CT's own voxels.  Prints GiB.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from conebeam.geometry import Lattice, regular_edges
from conebeam.job import Job
from conebeam.phantoms import write_voxels
from conebeam.provenance import provenance
from conebeam.run import Engine
from conebeam.scene import Scene

SHAPE, PITCH_CM = (512, 512, 256), (0.09, 0.09, 0.15)
NAMES = ("air", "lung", "soft tissue", "cortical bone")


def write_patient(path: Path) -> None:
    """An ellipse of soft tissue with lungs and a spine, and noise on its density."""
    x, y, _ = (p * (np.arange(n) - 0.5 * n + 0.5) for p, n in zip(PITCH_CM, SHAPE, strict=True))
    body = (x[:, None] / 19.0) ** 2 + (y[None, :] / 12.0) ** 2 < 1.0
    lungs = ((np.abs(x[:, None]) - 8.5) / 6.0) ** 2 + (y[None, :] / 8.0) ** 2 < 1.0
    spine = (x[:, None] / 2.0) ** 2 + ((y[None, :] - 8.0) / 2.0) ** 2 < 1.0
    flat = np.where(spine, 3, np.where(lungs, 1, np.where(body, 2, 0))).astype(np.uint8)
    material = np.repeat(flat[:, :, None], SHAPE[2], axis=2)
    rng = np.random.default_rng(1)
    density = np.array([1.2e-3, 0.26, 1.06, 1.92], dtype=np.float32)[material]
    for row in density:
        row *= rng.normal(1.0, 0.02, row.shape).astype(np.float32)
    x_cm, y_cm, z_cm = (
        regular_edges(low_cm=-0.5 * n * p, pitch_cm=p, count=n) for p, n in zip(PITCH_CM, SHAPE, strict=True)
    )
    lattice = Lattice(
        x_cm=x_cm, y_cm=y_cm, z_cm=z_cm, material=material, density_g_cm3=density, materials=NAMES
    )
    write_voxels(lattice, path)


def scene(file: str, full: bool, histories: int) -> Scene:
    """A CBCT-like beam on the patient."""
    scorer: dict[str, object] = {"kind": "dose"}
    if full:
        for axis, n, p in zip("xyz", SHAPE, PITCH_CM, strict=True):
            scorer[f"{axis}_cm"] = {"low_cm": -0.5 * n * p, "high_cm": 0.5 * n * p, "count": n}
    return Scene(
        histories=histories, batches=4,
        source={
            "kind": "point", "position_cm": (0.0, -100.0, 0.0),
            "field": {
                "kind": "rectangle", "width_cm": 27.0, "height_cm": 20.0, "normal": (0.0, 1.0, 0.0),
                "up": (0.0, 0.0, 1.0),
            },
            "spectrum": {"kind": "mono", "energy_kev": 60.0},
        },
        phantom={"kind": "voxels", "file": file},
        scorers=[scorer],
    )  # fmt: skip


def main() -> None:
    """Write the phantom in a process of its own, run, print the peak."""
    full, histories = sys.argv[1] == "full", int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "patient.npz"
        child = multiprocessing.get_context("spawn").Process(target=write_patient, args=(file,))
        child.start()
        child.join()
        wanted = scene(str(file), full, histories)
        engine = Engine(wanted, 2)
        job = Job(
            runner=engine, plan=wanted.plan(), path=Path(folder) / "dose.h5",
            provenance=provenance(scene=wanted.to_toml(), seed=1, versions=engine.versions),
        )  # fmt: skip
        result = job.run()
    print(f"{engine.path}: {result.histories / result.cpu_seconds:,.0f} histories per CPU second")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.3f}")


if __name__ == "__main__":
    main()
