"""Ultra-Fast-Lane-Detection: lanes as a choice among cells, row by row.

References
----------
Qin, Wang and Li, Ultra Fast Structure-aware Deep Lane Detection, arXiv:2004.11757.
"""

from retrim.zoo.ultrafast.config import PAPER, SMALL, Config
from retrim.zoo.ultrafast.decoding import decode
from retrim.zoo.ultrafast.draw import draw
from retrim.zoo.ultrafast.loss import LaneLoss
from retrim.zoo.ultrafast.network import UltraFast
from retrim.zoo.ultrafast.task import LaneTask

__all__ = ["PAPER", "SMALL", "Config", "LaneLoss", "LaneTask", "UltraFast", "decode", "draw"]
