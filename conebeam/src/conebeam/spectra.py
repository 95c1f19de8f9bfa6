"""What a scene's source sends out: a spectrum, and a tube's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conebeam.scene import Monoenergetic, PointSource, Scene, SpectrumFile, TubeResultFile
from conebeam.scene.source import CIRCLE
from conebeam.sources.columns import Columns, Opening
from conebeam.sources.spectrum import Spectrum, from_spekpy, monoenergetic, read_spectrum, tube
from conebeam.sources.tube_beam import TubeBeam, read_tube


@dataclass(frozen=True, kw_only=True, eq=False)
class Emitted:
    """Photons of a source.

    Parameters
    ----------
    spectrum : Spectrum
        Of all photons that are emitted into the field.
    columns : Columns, optional
        Intensities and spectra across the field.
    cathode : array, shape (3,), optional
        Unit vector along which columns follow each other.
    per_electron : float, optional
        Photons into the field for each electron of the tube, where the source is a tube's focus.
    versions : mapping
        Entries for the provenance.
    """

    spectrum: Spectrum
    columns: Columns | None = None
    cathode: NDArray[np.float64] | None = None
    per_electron: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def emitted_by(scene: Scene) -> Emitted:
    """Bins and weights, and columns where a tube's result has them.

    Raises
    ------
    ConebeamError
        If a file is no spectrum or no finished result of a tube, or the tube's field is too small;
        if SpekPy is missing or refuses the tube.
    """
    wanted = scene.source.spectrum
    if isinstance(wanted, Monoenergetic):
        return Emitted(spectrum=monoenergetic(wanted.energy_kev))
    if isinstance(wanted, SpectrumFile):
        return Emitted(spectrum=read_spectrum(scene.resolve(wanted.file), bins=wanted.bins))
    if isinstance(wanted, TubeResultFile):
        beam = read_tube(scene.resolve(wanted.file), with_columns=wanted.heel)
        return _emitted_by_tube(scene, beam, wanted)
    filters = [(f.material, f.thickness_mm) for f in wanted.filters]
    return Emitted(spectrum=from_spekpy(tube(wanted.kvp, wanted.anode_angle_deg, filters)))


def with_columns(source: PointSource, columns: Columns, versions: Mapping[str, str] | None = None) -> Emitted:
    """A point source whose field has columns.

    Raises
    ------
    ConfigError
        If the field reaches beyond the columns.
    """
    opening = opening_of(source)
    spectrum, number = columns.emitted(opening)
    return Emitted(
        spectrum=spectrum, columns=columns, cathode=opening.cathode, per_electron=number, versions=versions or {}
    )  # fmt: skip


def opening_of(source: PointSource) -> Opening:
    """The source's field as seen from it."""
    beam = source.beam()
    return Opening(
        circular=beam.shape == CIRCLE, centre=beam.centre - beam.position, u=beam.u, v=beam.v,
        cathode=np.asarray(source.cathode()),
    )  # fmt: skip


def _emitted_by_tube(scene: Scene, beam: TubeBeam, wanted: TubeResultFile) -> Emitted:
    versions = {f"tube {wanted.file}": beam.statement}
    if not isinstance(scene.source, PointSource):
        return Emitted(spectrum=beam.spectrum, versions=versions)
    if wanted.heel:
        return with_columns(scene.source, beam.columns, versions)
    # One column has the field's mean: what it sends into this field.
    _, number = beam.columns.emitted(opening_of(scene.source))
    return Emitted(spectrum=beam.spectrum, per_electron=number, versions=versions)
