"""A phantom from arrays, and the ``.npz`` file it is kept in.

The file is a plain NumPy archive (no pickled objects) with the arrays ``x_cm``,
``y_cm``, ``z_cm`` (edges), ``material`` (integers), ``density_g_cm3`` and
``materials`` (names), indexed [x, y, z].
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conebeam.errors import GeometryError
from conebeam.geometry import Lattice, LatticeCell

_KEYS = ("x_cm", "y_cm", "z_cm", "material", "density_g_cm3", "materials")


@dataclass(frozen=True, kw_only=True, eq=False)
class VoxelPhantom:
    """A lattice as a phantom."""

    voxels: Lattice

    def lattice(self) -> Lattice:
        """The lattice itself."""
        return self.voxels

    def cells(self) -> tuple[LatticeCell, ...]:
        """The lattice alone."""
        return (LatticeCell(name="phantom", lattice=self.voxels),)


def read_voxels(path: str | Path) -> Lattice:
    """Read a voxel phantom, unrotated, at the place its edges say.

    Raises
    ------
    GeometryError
        If the file is missing, damaged, lacks an array, or the arrays do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise GeometryError(f"voxel file '{path}' must exist")
    try:
        # numpy leaves a damaged file open if it opened it itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive.files]
            if missing:
                raise GeometryError(
                    f"voxel file '{path}' must hold {', '.join(_KEYS)}, and lacks {missing[0]}"
                )
            arrays = {key: archive[key] for key in _KEYS}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
        TypeError,
    ) as error:
        raise GeometryError(
            f"voxel file '{path}' must be a whole .npz archive of plain arrays, "
            "and is damaged or of another kind"
        ) from error
    names = tuple(str(name) for name in arrays.pop("materials").tolist())
    return Lattice(materials=names, **arrays)


def write_voxels(lattice: Lattice, path: str | Path) -> None:
    """Write a lattice's arrays (not its placement) beside and rename.

    Raises
    ------
    GeometryError
        If the file cannot be written.
    """
    path = Path(path)
    beside: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                x_cm=lattice.x_cm, y_cm=lattice.y_cm, z_cm=lattice.z_cm,
                material=lattice.material, density_g_cm3=lattice.density_g_cm3,
                materials=np.array(lattice.materials),
            )  # fmt: skip
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise GeometryError(f"'{path}' must be writable, and is not: {error.strerror or error}") from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)
