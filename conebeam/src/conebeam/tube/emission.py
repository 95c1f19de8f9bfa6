"""How photons are let out of the target: analog, split, or by their expectation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conebeam.histories.tube_emission import Way
from conebeam.scene.model import Model

_TOP_LEVEL = 5


class Transport(Model):
    """Steps of the electrons.

    Parameters
    ----------
    single : bool
        Every collision by itself: the oracle, a hundred times slower.
    surface : float
        A step is at most this times the depth below the face, the longest kind at most half of this.
    """

    single: bool = False
    surface: Annotated[float, Field(gt=0.0)] = 0.5


class Analog(Model):
    """Photons at events drawn along the steps; ``split`` photons of weight 1/split at each."""

    kind: Literal["analog"] = "analog"
    split: Annotated[int, Field(ge=1, le=10_000)] = 1


class Expected(Model):
    """The expectation in the field of all that electrons may emit, at points of their paths.

    The answer depends on none of these, only what σ costs.

    Parameters
    ----------
    points : float
        Points on the way of an electron that stops in the target's first layer, about.  Few suit small fields,
        many large ones and spectra in columns.
    interior : float
        Probability to follow one photon of a point inside the target, for what it would scatter or
        excite towards the field.
    """

    kind: Literal["expected"] = "expected"
    points: Annotated[float, Field(ge=0.01, le=1000.0)] = 32.0
    interior: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2


Emission = Analog | Expected


def way(emission: Emission, transport: Transport, cut_kev: float) -> Way:
    """Both as the kernel reads them."""
    expected = isinstance(emission, Expected)
    return Way(
        expected=expected,
        single=transport.single,
        split=emission.split if isinstance(emission, Analog) else 1,
        surface=transport.surface,
        top=_TOP_LEVEL,
        interior=emission.interior if isinstance(emission, Expected) else 1.0,
        cut=cut_kev,
    )
