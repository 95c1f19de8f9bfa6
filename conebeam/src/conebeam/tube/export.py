"""A spectrum for SpekPy: what ``Spek.load_from_file`` reads.

Two columns, energy (bin centre, keV) and fluence per keV (photons/cm²/keV) for a given mAs at
a given distance, which are arguments of SpekPy's.
"""

from __future__ import annotations

from pathlib import Path

from conebeam.result_file import write_text
from conebeam.tube.result import ELECTRONS_PER_MAS, TubeResult


def write_spekpy(result: TubeResult, path: str | Path) -> None:
    """Write the spectrum of 1 mAs in the field's plane.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    width = float(result.energy_edges[1] - result.energy_edges[0])
    per_kev = result.fluence * ELECTRONS_PER_MAS / width
    rows = [
        f"{k:.4f} {value:.6e}" for k, value in zip(result.energies.tolist(), per_kev.tolist(), strict=True)
    ]
    write_text("\n".join(rows) + "\n", Path(path))
