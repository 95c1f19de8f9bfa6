"""Tuples of arrays without reference counts, for the length of one kernel call.

See :mod:`conebeam.geometry.borrow` for why, and for the rule: never return or store
what is borrowed.
"""

from __future__ import annotations

from numba.core import config

from conebeam.compilation import kernel
from conebeam.geometry.borrow import lent
from conebeam.scoring.grids import Grids
from conebeam.scoring.planes import Planes
from conebeam.transport.physics import Physics


@kernel
def _borrowed_physics(p: Physics) -> Physics:
    return Physics(
        lent(p.energies),
        lent(p.first),
        lent(p.sections),
        lent(p.incoherent),
        lent(p.coherent),
        lent(p.momenta),
        lent(p.channel_first),
        lent(p.channel_vacancy),
        lent(p.channel_share),
        lent(p.line_first),
        lent(p.line_cumulative),
        lent(p.line_energy),
        lent(p.line_next),
    )


@kernel
def _borrowed_grids(g: Grids) -> Grids:
    return Grids(
        lent(g.edges),
        lent(g.edge_first),
        lent(g.shape),
        lent(g.box),
        lent(g.scale),
        lent(g.lookup),
        lent(g.lookup_first),
        lent(g.sum_first),
        lent(g.deposit),
    )


@kernel
def _borrowed_planes(p: Planes) -> Planes:
    return Planes(
        lent(p.centre),
        lent(p.normal),
        lent(p.across),
        lent(p.along),
        lent(p.circle),
        lent(p.area),
        lent(p.low),
        lent(p.scale),
        lent(p.bins),
        lent(p.sum_first),
        lent(p.response),
    )


def _physics(physics: Physics) -> Physics:
    return physics


def _grids(grids: Grids) -> Grids:
    return grids


def _planes(planes: Planes) -> Planes:
    return planes


_PLAIN = bool(getattr(config, "DISABLE_JIT", 0))
borrowed_physics = _physics if _PLAIN else _borrowed_physics
borrowed_grids = _grids if _PLAIN else _borrowed_grids
borrowed_planes = _planes if _PLAIN else _borrowed_planes
