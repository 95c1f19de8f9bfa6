"""RT3's second level: a pattern set for each operating point (docs/retrim/levels.md)."""

from __future__ import annotations

from retrim.levels.candidates import (
    Families,
    Tiling,
    count_kept,
    draw_families,
    free_masks,
    list_masks,
    nested_masks,
)
from retrim.levels.controller import Controller
from retrim.levels.joint import JointTraining
from retrim.levels.ladder import surgeon_ladder
from retrim.levels.method import TPE, Evolution, Method, RandomSearch
from retrim.levels.reward import Reward
from retrim.levels.search import METHODS, Runner, Trial, best, one_by_one, search
from retrim.levels.space import Candidate, Choice, Point, Space
from retrim.levels.trials import Trials

__all__ = [
    "METHODS",
    "TPE",
    "Candidate",
    "Choice",
    "Controller",
    "Evolution",
    "Families",
    "JointTraining",
    "Method",
    "Point",
    "RandomSearch",
    "Reward",
    "Runner",
    "Space",
    "Tiling",
    "Trial",
    "Trials",
    "best",
    "count_kept",
    "draw_families",
    "free_masks",
    "list_masks",
    "nested_masks",
    "one_by_one",
    "search",
    "surgeon_ladder",
]
