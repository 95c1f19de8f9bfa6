"""Where reference results lie: ``CONEBEAM_REFERENCE``, or ``shared/reference`` beside the project."""

from __future__ import annotations

import os
from pathlib import Path

REFERENCE = Path(os.environ.get("CONEBEAM_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))


def require(name: str) -> Path:
    """A folder of reference results; a sentence and exit status 2 where it is missing."""
    folder = REFERENCE / name
    if not folder.is_dir():
        raise SystemExit(
            f"reference results must lie in '{folder}', and do not; set CONEBEAM_REFERENCE to their folder"
        )
    return folder
