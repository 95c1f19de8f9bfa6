"""Pruners: how a network gets into its structures."""

from __future__ import annotations

from retrim.prune.admm import ADMM
from retrim.prune.diagnostics import Watcher, csv_log, tensorboard_log
from retrim.prune.group_lasso import ReweightedGroupLasso
from retrim.prune.heads import (
    Attention,
    head_energies,
    head_sensitivities,
    head_taylor,
    keep_heads,
    with_heads,
)
from retrim.prune.magnitude import CubicSchedule, Magnitude
from retrim.prune.measurement import sensitivity
from retrim.prune.plan import Plan, Rule, Target
from retrim.prune.pruner import Hardened, Probe, Pruner
from retrim.prune.sensitivities import Sensitivities
from retrim.prune.slr import SLR
from retrim.prune.surgeon import OptimalBrainSurgeon
from retrim.prune.update import Update

__all__ = [
    "ADMM",
    "SLR",
    "Attention",
    "CubicSchedule",
    "Hardened",
    "Magnitude",
    "OptimalBrainSurgeon",
    "Plan",
    "Probe",
    "Pruner",
    "ReweightedGroupLasso",
    "Rule",
    "Sensitivities",
    "Target",
    "Update",
    "Watcher",
    "csv_log",
    "head_energies",
    "head_sensitivities",
    "head_taylor",
    "keep_heads",
    "sensitivity",
    "tensorboard_log",
    "with_heads",
]
