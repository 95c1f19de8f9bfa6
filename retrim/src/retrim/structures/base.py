"""What every structure is: a form that a weight matrix may be held to.

A structure knows geometry only, never a density, and is readable without torch.
Its arithmetic runs on whatever array it is given (NumPy, or torch on any device).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array, to_device

from retrim.errors import ConfigError, ShapeError, WeightError
from retrim.structures.densities import Densities
from retrim.structures.support import Mask, Support
from retrim.structures.view import Array, Kind, from_matrix, matrix_shape, to_matrix

Density = float | tuple[float, ...]
"""A density; for a composed structure one for each of its parts, outermost first."""


class Groups(ABC):
    """A partition of a matrix's entries, as group penalties need it."""

    @property
    @abstractmethod
    def ids(self) -> Array:
        """Group of every entry, shape (out, in), 0 ... count - 1."""

    @abstractmethod
    def norms(self, matrix: Array) -> Array:
        """Euclidean norm of every group of `matrix`, shape (count,)."""

    @abstractmethod
    def spread(self, values: Array) -> Array:
        """One value per group, shape (count,), written to all its entries, shape (out, in)."""

    @property
    @abstractmethod
    def contest(self) -> Array:
        """Which groups compete for being kept, shape (count,): those of one number, 0 ..., do."""


class Structure(ABC):
    """A form that the (out, in) matrix of a weight may be held to."""

    def view(self, weight: Array, kind: Kind) -> Array:
        """Matrix of `weight` that this structure works on."""
        return to_matrix(weight, kind)

    def unview(self, matrix: Array, shape: tuple[int, ...], kind: Kind) -> Array:
        """Undo `view`."""
        return from_matrix(matrix, shape, kind)

    def view_shape(self, shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
        """Shape of what `view` gives for a weight of `shape`."""
        return matrix_shape(shape, kind)

    @abstractmethod
    def check(self, shape: tuple[int, int]) -> None:
        """Raise ShapeError if a matrix of `shape` cannot take this form."""

    @abstractmethod
    def reached(self, shape: tuple[int, int], density: Density) -> float:
        """Density that a request for `density` gives on `shape` (rounded to the nearest).

        Raises
        ------
        DensityError
            If none is near.
        """

    def densest(self, shape: tuple[int, int]) -> float:
        """Largest density that this form reaches on a matrix of `shape`."""
        return 1.0

    def silent(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Outputs that the form takes away whole, bias and all: bool, shape (out,); None where it takes none."""
        return None

    @abstractmethod
    def project(self, matrix: Array, density: Density) -> tuple[Array, Support]:
        """Nearest matrix of this form (Frobenius norm), and the subspace it spans.

        Ties go to the lower index, so that the result is the same everywhere.

        Parameters
        ----------
        matrix : array, shape (out, in)
        density : float or tuple of float
            Rounded to the nearest that the form reaches.

        Returns
        -------
        projected : array, shape (out, in)
        support : Support

        Raises
        ------
        ShapeError, DensityError, WeightError
        """

    def groups(self, matrix: Array) -> Groups | None:
        """Groups for group penalties, or None where the form is no union of groups."""
        return None

    def pack(self, matrix: Array, support: Support, precision: str = "fp32") -> np.ndarray:
        """Rewrite a hardened matrix into the layout that the kernels read.

        Parameters
        ----------
        matrix : array, shape (out, in)
        support : Support
            As `project` returned it.
        precision : {"fp32", "bf16", "int8"}
            The more precise it is, the larger the pack.

        Returns
        -------
        ndarray of uint8
            See `retrim.artifact.layout`.

        Raises
        ------
        ConfigError
        """
        from retrim.artifact.layout import PANEL, check_precision, pack_lists, pack_rows

        check_precision(precision)
        if not isinstance(support, Mask):
            raise ConfigError(f"{self} must be packed with the mask it was projected to")
        weight = np.ascontiguousarray(to_numpy(matrix), dtype=np.float32)
        mask = to_numpy(support.mask)
        if self.pack_height < PANEL:
            return pack_lists(weight, mask, self.pack_height, precision)
        return pack_rows(weight, mask, rows=self.pack_height, precision=precision, group=self.pack_group)

    @property
    def pack_height(self) -> int:
        """Rows that share a list in the packed layout: 1, 2, 4 or 8 in row groups, else a multiple of 32."""
        return 32

    @property
    def pack_group(self) -> int:
        """Neighbouring columns that the packed layout stores together."""
        return 1

    @staticmethod
    def unpack(pack: np.ndarray) -> tuple[np.ndarray, Mask]:
        """Undo `pack`: the float32 matrix, shape (out, in), and what of it is stored."""
        from retrim.artifact.layout import unpack

        matrix, stored = unpack(pack)
        return matrix, Mask(stored)

    def to_dict(self) -> dict[str, Any]:
        """Name and fields, as recipes and artifacts write them."""
        return {"type": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]


def to_numpy(array: Array) -> np.ndarray:
    """The same values as a NumPy array, wherever they are now."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "detach"):
        array = array.detach()
    if str(array.dtype).endswith("bfloat16"):
        array = array.float()  # NumPy has no bfloat16, and every one is a float32
    return np.asarray(to_device(array, "cpu"))


def check_finite(matrix: Array) -> None:
    """Refuse a weight that holds NaN or infinity: no projection of it means anything."""
    xp = array_namespace(matrix)
    if not bool(xp.all(xp.isfinite(matrix))):
        bad = int(xp.sum(xp.astype(~xp.isfinite(matrix), xp.int64)))
        raise WeightError(
            f"a weight must be finite before it is projected, but {bad} of its "
            f"{matrix.shape[0] * matrix.shape[1]} values are NaN or infinite: "
            "go back to a checkpoint from before training diverged"
        )


def _kth_largest(scores: Array, k: int) -> Array:
    """The `k`-th largest of each row, shape (blocks, 1); selected where the library can, else sorted for."""
    place = scores.shape[1] - k
    if is_torch_array(scores):
        return scores.kthvalue(place + 1, dim=1, keepdim=True).values
    if isinstance(scores, np.ndarray):
        return np.partition(scores, place, axis=1)[:, place : place + 1]
    return array_namespace(scores).sort(scores, axis=1)[:, place : place + 1]


def largest(scores: Array, kept: int) -> Array:
    """Mark the `kept` largest scores of each row; of equal ones, those that come first.

    Parameters
    ----------
    scores : array, shape (blocks, groups)
    kept : int
        1 <= kept <= groups.

    Returns
    -------
    array of bool, shape (blocks, groups), with exactly `kept` true in each row.
    """
    xp = array_namespace(scores)
    threshold = _kth_largest(scores, kept)
    above = scores > threshold
    level = scores == threshold
    room = kept - xp.sum(xp.astype(above, xp.int64), axis=1, keepdims=True)
    if bool(xp.all(xp.sum(xp.astype(level, xp.int64), axis=1, keepdims=True) == room)):
        return above | level
    return above | (level & (xp.cumulative_sum(xp.astype(level, xp.int64), axis=1) <= room))


@dataclass(frozen=True, eq=False)
class Partition(Groups):
    """The groups of a `Grouped` structure on a matrix of one shape."""

    structure: Grouped
    like: Array

    @property
    def ids(self) -> Array:
        xp = array_namespace(self.like)
        blocks, groups = self.structure.grid(self._shape)
        ids = xp.arange(blocks * groups, device=device(self.like))
        ids = xp.reshape(ids, (blocks, groups))
        return self.structure.expand(ids, self._shape)

    def norms(self, matrix: Array) -> Array:
        xp = array_namespace(matrix)
        return xp.reshape(xp.sqrt(self.structure.energies(matrix)), (-1,))

    def spread(self, values: Array) -> Array:
        xp = array_namespace(values)
        grid = xp.reshape(values, self.structure.grid(self._shape))
        return self.structure.expand(grid, self._shape)

    @property
    def contest(self) -> Array:
        xp = array_namespace(self.like)
        blocks, groups = self.structure.grid(self._shape)
        places = xp.arange(blocks * groups, device=device(self.like))
        return places // groups if self.structure.balanced else places * 0

    @property
    def _shape(self) -> tuple[int, int]:
        return (self.like.shape[0], self.like.shape[1])


class Grouped(Structure):
    """A structure that keeps whole groups of equal size, each in one block of the matrix.

    The groups lie on a grid (blocks, groups in a block).  A balanced budget
    keeps the same number in every block, a global one the best of the layer.
    """

    @abstractmethod
    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Blocks, and groups in each."""

    @abstractmethod
    def energies(self, matrix: Array) -> Array:
        """Sum of squares of every group, shape `grid`."""

    @abstractmethod
    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        """Values on the grid written to every entry of their group, shape (out, in)."""

    def compact(self, matrix: Array, keep: Array) -> Array:
        """The kept groups of a balanced choice, moved together into a smaller matrix.

        Parameters
        ----------
        matrix : array, shape (out, in)
        keep : array of bool, shape `grid`, with the same number true in each row.

        Returns
        -------
        array, shape `compact_shape`
        """
        raise ConfigError(f"{self} must not be compacted: what it keeps is no smaller matrix")

    def compact_shape(self, shape: tuple[int, int], kept: int) -> tuple[int, int]:
        """Shape of what `compact` gives when each block keeps `kept` groups."""
        raise ConfigError(f"{self} must not be compacted: what it keeps is no smaller matrix")

    def scatter(self, small: Array, keep: Array, shape: tuple[int, int]) -> Array:
        """Undo `compact`, zero where nothing was kept."""
        raise ConfigError(f"{self} must not be compacted: what it keeps is no smaller matrix")

    @property
    def compacts(self) -> bool:
        """Whether what a balanced choice keeps can be moved together into a matrix."""
        return type(self).compact is not Grouped.compact

    @property
    def balanced(self) -> bool:
        """Whether every block keeps the same number of groups."""
        return True

    def check(self, shape: tuple[int, int]) -> None:
        if len(shape) != 2 or 0 in shape:
            raise ShapeError(f"a weight matrix must have two non-empty dimensions, not {shape}")

    def densities(self, shape: tuple[int, int]) -> Densities:
        """All densities that this form reaches on a matrix of `shape`."""
        self.check(shape)
        blocks, groups = self.grid(shape)
        return Densities(groups if self.balanced else blocks * groups)

    def reached(self, shape: tuple[int, int], density: Density) -> float:
        return self.densities(shape).nearest(_single(self, density))

    def choose(self, matrix: Array, density: Density) -> Array:
        """Groups that the projection keeps, bool on the grid."""
        shape = (matrix.shape[0], matrix.shape[1])
        kept = self.densities(shape).count(_single(self, density))
        check_finite(matrix)
        xp = array_namespace(matrix)
        energies = self.energies(matrix)
        if self.balanced:
            return largest(energies, kept)
        keep = largest(xp.reshape(energies, (1, -1)), kept)
        return xp.reshape(keep, self.grid(shape))

    def project(self, matrix: Array, density: Density) -> tuple[Array, Support]:
        support = Mask(self.expand(self.choose(matrix, density), (matrix.shape[0], matrix.shape[1])))
        return support.apply(matrix), support

    def groups(self, matrix: Array) -> Groups:
        self.check((matrix.shape[0], matrix.shape[1]))
        return Partition(self, matrix)


def _single(structure: Structure, density: Density) -> float:
    if isinstance(density, tuple):
        if len(density) != 1:
            raise ConfigError(
                f"density must be one number for {structure}, not {density}: "
                "only Within takes one for each of its parts"
            )
        return density[0]
    return density


def energy(matrix: Array, axis: int) -> Array:
    """Sum of squares along `axis`, in at least single precision.

    Halves are added entry by entry until one entry is left: libraries choose
    the order of a sum by memory layout and vector width, and groups that are
    alike would then differ in the last bit and tie nowhere the same.
    """
    return total(squares(matrix), axis)


def total(terms: Array, axis: int) -> Array:
    """Sum along `axis` in the order that `energy` says; `terms` are overwritten."""
    before = (slice(None),) * axis
    while terms.shape[axis] > 1:
        half = (terms.shape[axis] + 1) // 2
        first, second = terms[*before, :half], terms[*before, half:]
        first[*before, : second.shape[axis]] += second
        terms = first
    return terms[*before, 0]


def squares(matrix: Array) -> Array:
    """Entry-wise squares in at least single precision."""
    xp = array_namespace(matrix)
    if str(matrix.dtype).rsplit(".", 1)[-1] in ("float16", "bfloat16"):
        matrix = xp.astype(matrix, xp.float32)
    return matrix * matrix
