"""Detection data in COCO's two common layouts, augmentation, and the benchmark's metric.

References
----------
Lin et al., Microsoft COCO: common objects in context, arXiv:1405.0312.
"""

from retrim.zoo.coco.annotations import read_json
from retrim.zoo.coco.augmentation import Augmentation
from retrim.zoo.coco.dataset import CocoDataset
from retrim.zoo.coco.images import read_image
from retrim.zoo.coco.instances import Instances
from retrim.zoo.coco.layout import HELD_OUT, TRAINING, open_coco
from retrim.zoo.coco.letterbox import Letterbox
from retrim.zoo.coco.metric import Detections, average_precision
from retrim.zoo.coco.names import NAMES
from retrim.zoo.coco.yolo import read_yolo

__all__ = [
    "HELD_OUT",
    "NAMES",
    "TRAINING",
    "Augmentation",
    "CocoDataset",
    "Detections",
    "Instances",
    "Letterbox",
    "average_precision",
    "open_coco",
    "read_image",
    "read_json",
    "read_yolo",
]
