"""What is put in a scene: phantoms that know which cells they are made of."""

from conebeam.phantoms.cylinder import CylinderPhantom, Insert
from conebeam.phantoms.slab import Layer, SlabPhantom
from conebeam.phantoms.voxels import VoxelPhantom, read_voxels, write_voxels
from conebeam.phantoms.water_box import BoxPhantom, water_box

__all__ = [
    "BoxPhantom",
    "CylinderPhantom",
    "Insert",
    "Layer",
    "SlabPhantom",
    "VoxelPhantom",
    "read_voxels",
    "water_box",
    "write_voxels",
]
