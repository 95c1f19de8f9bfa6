"""Structures: what form a weight may take.

Every structure gives views of weights as matrices, the densities it reaches,
the nearest matrix of its form, the groups that a penalty works on, and the
packed layout that kernels read.  Any pruner works with any structure.
"""

from __future__ import annotations

from retrim.structures.base import Density, Grouped, Groups, Structure
from retrim.structures.blocks import BlockColumns, BlockRows
from retrim.structures.channels import Channels
from retrim.structures.densities import Densities
from retrim.structures.elements import Elements
from retrim.structures.filters import Filters
from retrim.structures.named import from_dict
from retrim.structures.patterns import PatternSet
from retrim.structures.segments import Segments
from retrim.structures.support import Mask, Support
from retrim.structures.view import Kind
from retrim.structures.within import Within

__all__ = [
    "BlockColumns",
    "BlockRows",
    "Channels",
    "Densities",
    "Density",
    "Elements",
    "Filters",
    "Grouped",
    "Groups",
    "Kind",
    "Mask",
    "PatternSet",
    "Segments",
    "Structure",
    "Support",
    "Within",
    "from_dict",
]
