"""Run a tube: to a number of electrons, or to an uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conebeam.batches import BatchPlan
from conebeam.errors import ConfigError
from conebeam.job import Job, Target
from conebeam.provenance import provenance
from conebeam.tube.emission import Emission, Transport
from conebeam.tube.engine import TubeEngine
from conebeam.tube.model import View, XrayTube
from conebeam.tube.result import TubeResult

REGION = "field.above 15 keV"
_BATCHES, _TARGET_BATCH, _MOST = 64, 250, 100_000_000
_LARGEST_BATCH = 100_000  # half a second: what an interruption waits for, and loses


def tube_job(
    tube: XrayTube,
    view: View | None = None,
    *,
    electrons: int | None = None,
    uncertainty: float | None = None,
    emission: Emission | None = None,
    transport: Transport | None = None,
    seed: int = 1,
    threads: int = 1,
    path: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Job:
    """A job that runs a tube and may be interrupted and taken up again.

    Parameters
    ----------
    electrons : int, optional
        How many; or
    uncertainty : float, optional
        relative σ of the fluence above 15 keV in the field at which to stop.
    path : Path, optional
        Result file; an unfinished one is resumed.

    Raises
    ------
    ConfigError
        Unless exactly one of electrons and uncertainty is given and positive; if the seed is none.
    """
    if (electrons is None) == (uncertainty is None):
        raise ConfigError(
            "a tube's run must have either a number of electrons or an uncertainty, not both or none"
        )
    if electrons is not None and electrons < 1:
        raise ConfigError(f"electrons must be at least 1, not {electrons}")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be a whole number from 0 to 2^63 - 1, not {seed}")
    target = None if uncertainty is None else Target(uncertainty=uncertainty, region=REGION)
    plan = (
        BatchPlan(histories=_MOST, batches=_MOST // _TARGET_BATCH)
        if electrons is None
        else BatchPlan(
            histories=electrons, batches=min(max(_BATCHES, electrons // _LARGEST_BATCH), electrons)
        )
    )
    engine = TubeEngine(
        tube, view, emission=emission, transport=transport, seed=seed, threads=threads, progress=progress,
        batch=-(-plan.histories // plan.batches),
    )  # fmt: skip
    # A run to an uncertainty has no last batch to tell by that it is finished.
    versions = {**engine.versions, "until": "electrons" if target is None else "uncertainty"}
    origin = provenance(scene=tube.to_toml(), seed=seed, versions=versions)
    return Job(runner=engine, provenance=origin, plan=plan, target=target, path=path)


def run_tube_job(tube: XrayTube, view: View | None = None, **options: object) -> TubeResult:
    """Run a tube without showing anything; see :func:`tube_job`."""
    return TubeResult(tube_job(tube, view, **options).run(), tube, view or View())  # type: ignore[arg-type]
