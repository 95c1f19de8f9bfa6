"""The densities that a structure can reach on a weight of a given shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from retrim.errors import DensityError

REFUSED_BEYOND = 0.1
"""A request farther than this from every reachable density, relative to the request, is refused."""


def check_density(density: float) -> float:
    """Return `density` if it is a number in (0, 1].

    Raises
    ------
    DensityError
        If it is not.
    """
    if isinstance(density, bool) or not isinstance(density, int | float):
        raise DensityError(f"density must be a number with 0 < density <= 1, not {density!r}")
    if not 0 < density <= 1:
        raise DensityError(f"density must be a number with 0 < density <= 1, not {density}")
    return float(density)


@dataclass(frozen=True)
class Densities:
    """All multiples of ``1 / steps`` from ``least / steps`` to 1.

    Parameters
    ----------
    steps : int
        Groups that a budget is counted over.
    least : int, default 1
        Smallest number of groups that may be kept.  ``least == steps`` means
        that the structure has this one density only.
    scale : float, default 1
        Density of one with all `steps` groups kept: a circulant form of block
        b has ``steps = least = 1`` and ``scale = 1 / b``.
    """

    steps: int
    least: int = 1
    scale: float = 1.0

    def __len__(self) -> int:
        return self.steps - self.least + 1

    def count(self, density: float) -> int:
        """Groups kept for the reachable density nearest to `density`; half rounds up.

        Raises
        ------
        DensityError
            If `density` is no density, or the nearest reachable one is more
            than a tenth of it away.
        """
        density = check_density(density)
        kept = math.floor(density / self.scale * self.steps + 0.5)
        kept = min(max(kept, self.least), self.steps)
        reached = self.scale * kept / self.steps
        if abs(reached - density) > REFUSED_BEYOND * density:
            raise DensityError(
                f"density must be within {REFUSED_BEYOND:.0%} of one that the structure reaches "
                f"here, not {density:g}: the nearest is {reached:g}"
            )
        return kept

    def nearest(self, density: float) -> float:
        """Reachable density nearest to `density`."""
        return self.scale * self.count(density) / self.steps
