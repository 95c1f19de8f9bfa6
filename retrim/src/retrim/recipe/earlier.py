"""Result files of comparisons, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError
from retrim.recipe.comparison import Comparison
from retrim.recipe.part import checked


@dataclass(frozen=True)
class Earlier:
    """What a result file of `retrim experiment slr` says.

    Attributes
    ----------
    recipe : Comparison
        That it was made with.
    baseline : dict
        The dense network's score.
    rows : list of dict
        All branches, those of the tuning first.
    """

    recipe: Comparison
    baseline: dict[str, float]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Earlier:
        """Read a result file.

        Raises
        ------
        ConfigError
        """
        try:
            found = json.loads(path.read_text("utf-8"))
            recipe, baseline = found["recipe"], dict(found["baseline"])
            rows = [row for tuned in found["tuning"] for row in tuned["rows"]] + list(found["rows"])
            for row in rows:
                row["forms"], row["rate"], row["method"], row["seed"], row["rho"], row["score"]["0"]
        except OSError as error:
            raise ConfigError(
                f"{str(path)!r} must be a result file that can be read: {error.strerror}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{str(path)!r} must be a result of `retrim experiment slr --json`, but is something else or damaged"
            ) from None
        return cls(checked(Comparison, recipe, str(path)), baseline, rows)
