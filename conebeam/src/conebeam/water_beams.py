"""The beams of the published results in water: 60 keV and 100 kVp, 10×10 cm at 100 cm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

from conebeam.dose import Beam

_SPECTRUM = "spectrum_100kvp_12deg_2.5mm_al.csv"


@contextmanager
def water_beam(case: str) -> Iterator[Beam]:
    """The beam of a case of :mod:`conebeam.compare.water`; its spectrum file lives within."""
    if case == "60keV":
        yield Beam(energy_kev=60.0)
        return
    with resources.as_file(resources.files("conebeam.data") / "published" / _SPECTRUM) as path:
        yield Beam(spectrum=path)
