"""Our dose in water against reference results: which share of points is how far off.

With d = ours/reference − 1 (on a profile: the difference over the reference's axis
value) and the relative standard deviations σ₁ of ours and σ₂ of the reference,

    excess = |d| − 2 √(σ₁² + σ₂²)

is what statistics do not explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.compare.difference import AtPosition, Comparison, compare_curves
from conebeam.compare.reference import Curve, read_curve

CASES = ("60keV", "100kVp")
COLUMNS = ("1x1", "2x2", "6x6")
PROFILES_CM = (1, 2, 5, 10)
_TOLERANCE = 0.01
_SHALLOW_CM = 10.0
_DEEP_CM = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class WaterReference:
    """Depth curves and profiles of one beam.

    Parameters
    ----------
    depth : mapping of column (``"2x2"``) to Curve
    profiles : mapping of depth in cm to Curve
    """

    depth: Mapping[str, Curve]
    profiles: Mapping[int, Curve]


@dataclass(frozen=True, kw_only=True, eq=False)
class WaterVerdict:
    """Differences of one beam and what they amount to.

    Attributes
    ----------
    worst_excess : float
        Largest excess on the 2×2 column down to 10 cm.
    mean_difference : float
        Mean d there.
    deep_excess : float
        Excess on the 6×6 column at 20 cm.
    profile_share : float
        Share of all profile points with an excess of at most 1 % of the axis value.
    profile_worst : float
        Largest excess of a profile point.
    """

    depth: Mapping[str, Comparison]
    profiles: Mapping[int, Comparison]
    worst_excess: float
    mean_difference: float
    deep_excess: float
    profile_share: float
    profile_worst: float

    @property
    def passes(self) -> dict[str, bool]:
        """The accuracy this package holds itself to, item by item."""
        return {
            "2x2 to 10 cm: excess at most 1 %": self.worst_excess <= 0.01,
            "2x2 to 10 cm: mean difference at most 0.3 %": abs(self.mean_difference) <= 0.003,
            "6x6 at 20 cm: excess at most 2 %": self.deep_excess <= 0.02,
            "profiles: 95 % of points within 1 %": self.profile_share >= 0.95,
            "profiles: all points within 2 %": self.profile_worst <= 0.02,
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "worst_excess_2x2_to_10cm": self.worst_excess,
            "mean_difference_2x2_to_10cm": self.mean_difference,
            "excess_6x6_at_20cm": self.deep_excess,
            "profile_share_within_1pct": self.profile_share,
            "profile_worst_excess": self.profile_worst,
            "passes": self.passes,
            "depth": {name: c.as_dict() for name, c in self.depth.items()},
            "profiles": {str(at): c.as_dict() for at, c in self.profiles.items()},
        }


def read_reference(depth_csv: str | Path, profiles_csv: str | Path) -> WaterReference:
    """Reference files as DOSXYZnrc's results are kept (see ``docs``).

    Raises
    ------
    DataError
        If a file or column is missing.
    """
    return WaterReference(
        depth={
            name: read_curve(depth_csv, position="z_mid_cm", value=f"D_{name}cm_Gycm2", sigma=f"u_{name}_pct")
            for name in COLUMNS
        },
        profiles={
            at: read_curve(profiles_csv, position="x_mid_cm", where=("z_mid_cm", float(at)))
            for at in PROFILES_CM
        },
    )


def published(case: str) -> WaterReference:
    """The reference of a case in ``CASES`` that comes with the package."""
    folder = resources.files("conebeam.data") / "published"
    with (
        resources.as_file(folder / f"water_{case.lower()}_depth.csv") as depth,
        resources.as_file(folder / f"water_{case.lower()}_profiles.csv") as profiles,
    ):
        return read_reference(depth, profiles)


def judge(content: Mapping[str, Any], reference: WaterReference) -> WaterVerdict:
    """Compare what ``conebeam dose --json`` wrote with a reference."""
    depths = content["depth_cm"]
    depth = {
        name: compare_curves(
            _curve(depths, content["dose_gy_cm2"][name], content["sigma"][name], name),
            reference.depth[name],
            tolerance=_TOLERANCE,
        )
        for name in COLUMNS
    }
    profiles = {}
    for at, theirs in reference.profiles.items():
        ours = content["profiles"][str(at)]
        curve = _curve(ours["x_cm"], ours["dose_gy_cm2"], ours["sigma"], f"profile {at} cm")
        base = AtPosition(float(theirs.position[0]))
        profiles[at] = compare_curves(curve, theirs, tolerance=_TOLERANCE, base=base)
    shallow = depth["2x2"].position <= _SHALLOW_CM + 1e-6
    deep = int(np.argmin(np.abs(depth["6x6"].position - _DEEP_CM)))
    excess = np.concatenate([c.excess() for c in profiles.values()])
    return WaterVerdict(
        depth=depth,
        profiles=profiles,
        worst_excess=float(depth["2x2"].excess()[shallow].max()),
        mean_difference=float(depth["2x2"].difference[shallow].mean()),
        deep_excess=float(depth["6x6"].excess()[deep]),
        profile_share=float(np.mean(excess <= _TOLERANCE)),
        profile_worst=float(excess.max()),
    )


def _curve(position: Any, value: Any, sigma: Any, name: str) -> Curve:
    known: NDArray[np.float64] = np.array([np.inf if s is None else s for s in sigma])
    return Curve(
        position=np.asarray(position), value=np.asarray(value),
        sigma=np.where(np.isfinite(known), known, 0.0), name=name,
    )  # fmt: skip
