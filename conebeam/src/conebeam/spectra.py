"""The spectrum that a scene's source asks for."""

from __future__ import annotations

from conebeam.scene import Monoenergetic, Scene, SpectrumFile
from conebeam.sources.spectrum import Spectrum, from_spekpy, monoenergetic, read_spectrum, tube


def spectrum_of(scene: Scene) -> Spectrum:
    """Bins and weights; a tube's come from SpekPy.

    Raises
    ------
    DataError, ConfigError
        If a file is no spectrum, or SpekPy is missing or refuses the tube.
    """
    wanted = scene.source.spectrum
    if isinstance(wanted, Monoenergetic):
        return monoenergetic(wanted.energy_kev)
    if isinstance(wanted, SpectrumFile):
        return read_spectrum(scene.resolve(wanted.file), bins=wanted.bins)
    filters = [(f.material, f.thickness_mm) for f in wanted.filters]
    return from_spekpy(tube(wanted.kvp, wanted.anode_angle_deg, filters))
