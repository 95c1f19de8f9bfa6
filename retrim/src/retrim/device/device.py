"""A device: its clusters and its battery."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from retrim.device.battery import Battery
from retrim.device.checks import words
from retrim.device.cluster import Cluster
from retrim.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Device:
    """What is known of a device.

    Parameters
    ----------
    name : str
    title : str
        One line for people.
    clusters : tuple of Cluster
    battery : Battery, optional
    notes : tuple of str
        What a reader must know of the numbers.

    Raises
    ------
    DeviceError
        If it has no cluster, or two of one name.
    """

    name: str
    title: str
    clusters: tuple[Cluster, ...]
    battery: Battery | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        words("a device's name", self.name)
        names = [cluster.name for cluster in self.clusters]
        if not names:
            raise DeviceError(f"device {self.name!r} must have a cluster, but has none")
        if len(set(names)) < len(names):
            raise DeviceError(f"clusters of device {self.name!r} must have names of their own, not {names}")

    def cluster(self, name: str | None = None) -> Cluster:
        """A cluster by its name; the fastest where none is given, the last of those that are equally fast.

        Raises
        ------
        DeviceError
            If there is none of this name.
        """
        if name is None:
            return max(reversed(self.clusters), key=lambda cluster: cluster.top.mhz)
        for found in self.clusters:
            if found.name == name:
                return found
        known = ", ".join(found.name for found in self.clusters)
        raise DeviceError(f"cluster must be one of {known} on {self.name}, not {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with the notes that follow from the tables."""
        found = asdict(self)
        found["notes"] = [*self.notes, *(note for cluster in self.clusters for note in cluster.notes)]
        return found
