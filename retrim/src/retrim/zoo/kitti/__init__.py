"""KITTI's 3D object detection: scans, labels, calibration, and the benchmark's metric.

References
----------
Geiger, Lenz and Urtasun, Are we ready for autonomous driving? The KITTI vision
benchmark suite, CVPR 2012.
"""

from retrim.zoo.kitti.augmentation import Augmentation
from retrim.zoo.kitti.calibration import Calibration, read_calibration
from retrim.zoo.kitti.dataset import HELD_OUT, TRAINING, read_frames
from retrim.zoo.kitti.frame import Frame
from retrim.zoo.kitti.metric import CLASSES, DIFFICULTIES, average_precision
from retrim.zoo.kitti.objects import Objects, read_objects
from retrim.zoo.kitti.points import read_points

__all__ = [
    "CLASSES",
    "DIFFICULTIES",
    "HELD_OUT",
    "TRAINING",
    "Augmentation",
    "Calibration",
    "Frame",
    "Objects",
    "average_precision",
    "read_calibration",
    "read_frames",
    "read_objects",
    "read_points",
]
