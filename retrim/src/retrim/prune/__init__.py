"""Pruners: how a network gets into its structures."""

from __future__ import annotations

from retrim.prune.admm import ADMM
from retrim.prune.diagnostics import Watcher, csv_log, tensorboard_log
from retrim.prune.group_lasso import ReweightedGroupLasso
from retrim.prune.magnitude import CubicSchedule, Magnitude
from retrim.prune.plan import Plan, Rule, Target
from retrim.prune.pruner import Hardened, Probe, Pruner
from retrim.prune.slr import SLR
from retrim.prune.update import Update

__all__ = [
    "ADMM",
    "SLR",
    "CubicSchedule",
    "Hardened",
    "Magnitude",
    "Plan",
    "Probe",
    "Pruner",
    "ReweightedGroupLasso",
    "Rule",
    "Target",
    "Update",
    "Watcher",
    "csv_log",
    "tensorboard_log",
]
