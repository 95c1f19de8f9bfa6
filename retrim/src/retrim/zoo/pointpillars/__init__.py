"""PointPillars: objects in laser scans, seen from above.

References
----------
Lang et al., PointPillars: fast encoders for object detection from point clouds,
arXiv:1812.05784.
"""

from retrim.zoo.pointpillars.config import PAPER, SMALL, Anchor, Config
from retrim.zoo.pointpillars.decoding import Detections, detections_of
from retrim.zoo.pointpillars.draw import draw, draw_on_image
from retrim.zoo.pointpillars.loss import DetectionLoss
from retrim.zoo.pointpillars.network import PointPillars, Predictions
from retrim.zoo.pointpillars.task import PointPillarsTask, ScanBatch

__all__ = [
    "PAPER",
    "SMALL",
    "Anchor",
    "Config",
    "DetectionLoss",
    "Detections",
    "PointPillars",
    "PointPillarsTask",
    "Predictions",
    "ScanBatch",
    "detections_of",
    "draw",
    "draw_on_image",
]
