"""A table without reference counts, for the length of one kernel call.

Numba counts references to every array that is handed from function to function,
by atomic operations; with a table of twenty arrays that costs several times what
the geometry itself does.  ``borrowed(table)``, called once at the start of a
kernel, gives the same table over arrays that own nothing, and the counting stops.
The kernel's own argument keeps the memory alive: never return or store what is
borrowed.
"""

from __future__ import annotations

from typing import Any

from numba import carray, types
from numba.core import config
from numba.extending import intrinsic

from conebeam.compilation import inlined, kernel
from conebeam.geometry.table import Table


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, _address: Any) -> Any:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uintp), generate


@inlined
def lent(array: Any) -> Any:
    """An array that owns nothing."""
    address: Any = _pointer(array.ctypes.data)
    return carray(address, array.shape, array.dtype)


@kernel
def _borrowed(t: Table) -> Table:
    return Table(
        lent(t.coefficients),
        lent(t.surface_kind),
        lent(t.cell_first),
        lent(t.half_surface),
        lent(t.half_sign),
        lent(t.cell_kind),
        lent(t.cell_material),
        lent(t.cell_density),
        lent(t.cell_lattice),
        lent(t.cell_box),
        lent(t.order),
        lent(t.rival_first),
        lent(t.rivals),
        lent(t.lattice_rotation),
        lent(t.lattice_translation),
        lent(t.lattice_shape),
        lent(t.edges),
        lent(t.edge_first),
        lent(t.inverse_pitch),
        lent(t.voxel_first),
        lent(t.voxel_material),
        lent(t.voxel_density),
    )


def _unchanged(table: Table) -> Table:
    return table


# With jitting off there is nothing to borrow and no machine address to build on.
borrowed = _unchanged if getattr(config, "DISABLE_JIT", 0) else _borrowed
