"""TuSimple's lanes: labels, masks, and the benchmark's metric."""

from retrim.zoo.tusimple.dataset import HELD_OUT, TRAINING, read_frames
from retrim.zoo.tusimple.frame import ABSENT, H_SAMPLES, Frame
from retrim.zoo.tusimple.metric import Score, mean_score, score_frame

__all__ = [
    "ABSENT",
    "HELD_OUT",
    "H_SAMPLES",
    "TRAINING",
    "Frame",
    "Score",
    "mean_score",
    "read_frames",
    "score_frame",
]
