"""Darknet's detectors (YOLOv3 and its kin), from any `.cfg` and `.weights`.

References
----------
Redmon and Farhadi, YOLOv3: an incremental improvement, arXiv:1804.02767.
"""

from retrim.zoo.darknet.detections import Detections, detections_of
from retrim.zoo.darknet.draw import draw
from retrim.zoo.darknet.header import Header
from retrim.zoo.darknet.heads import Head
from retrim.zoo.darknet.loss import DetectionLoss
from retrim.zoo.darknet.names import read_names
from retrim.zoo.darknet.network import DarknetNetwork
from retrim.zoo.darknet.sections import Section, parse_sections, read_sections
from retrim.zoo.darknet.targets import Targets, targets_of
from retrim.zoo.darknet.weights import count_values, load_weights, save_weights

__all__ = [
    "DarknetNetwork",
    "DetectionLoss",
    "Detections",
    "Head",
    "Header",
    "Section",
    "Targets",
    "count_values",
    "detections_of",
    "draw",
    "load_weights",
    "parse_sections",
    "read_names",
    "read_sections",
    "save_weights",
    "targets_of",
]
