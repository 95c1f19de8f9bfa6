"""Boxes from codes, and how much boxes overlap.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.1; Zheng et al., Distance-IoU loss,
arXiv:1911.08287, equations 10 to 12.
"""

from __future__ import annotations

import math

import torch

from retrim.zoo.darknet.heads import Head

_LARGEST = 10.0  # of a logarithm of a size over the anchor's; what is beyond is nonsense that would overflow
_TINY = 1e-7


def decode(codes: torch.Tensor, cells: torch.Tensor, anchors: torch.Tensor, head: Head) -> torch.Tensor:
    """Boxes (…, 4), centre x and y, width, height in pixels of the input, in float32.

    Parameters
    ----------
    codes : Tensor, shape (…, 4)
        t_x, t_y, t_w, t_h.
    cells : Tensor, shape (…, 2)
        Column and row.
    anchors : Tensor, shape (…, 2)
        Width and height in pixels.
    """
    codes = codes.float()
    scale = head.scale_x_y
    centre = torch.sigmoid(codes[..., :2]) * scale - (scale - 1) / 2 + cells
    size = codes[..., 2:].clamp(-_LARGEST, _LARGEST).exp() * anchors
    return torch.cat((centre * head.stride, size), dim=-1)


def decode_map(seen: torch.Tensor, head: Head) -> torch.Tensor:
    """Boxes of all predictions of a head, shape (n, anchors, height, width, 4).

    Parameters
    ----------
    seen : Tensor, shape (n, anchors, 5 + classes, height, width)
    """
    height, width = seen.shape[-2:]
    rows = torch.arange(height, device=seen.device).view(-1, 1).expand(height, width)
    columns = torch.arange(width, device=seen.device).expand(height, width)
    anchors = torch.tensor(head.anchors, device=seen.device).view(-1, 1, 1, 2)
    return decode(seen[:, :, :4].movedim(2, -1), torch.stack((columns, rows), dim=-1), anchors, head)


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """Left, top, right, bottom of boxes (…, 4) of centre and size."""
    half = boxes[..., 2:] / 2
    return torch.cat((boxes[..., :2] - half, boxes[..., :2] + half), dim=-1)


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all pairs of boxes (n, 4) and (m, 4) of corners; shape (n, m)."""
    return _overlap(first[:, None], second[None])


def shape_overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The same of boxes with one centre: widths and heights (n, 2) and (m, 2); shape (n, m)."""
    common = torch.minimum(first[:, None], second[None]).prod(dim=2)
    return common / (first.prod(dim=1)[:, None] + second.prod(dim=1) - common)


def complete_overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Complete IoU of box after box, both (n, 4) of centre and size; shape (n,).

    IoU less the distance of centres over the diagonal of what encloses both, less a term
    for the difference in form, whose weight is taken as a constant.
    """
    ends, others = corners(first), corners(second)
    ratio = _overlap(ends, others)
    enclosing = torch.maximum(ends[:, 2:], others[:, 2:]) - torch.minimum(ends[:, :2], others[:, :2])
    distance = (first[:, :2] - second[:, :2]).square().sum(dim=1)
    turn = torch.atan2(second[:, 2], second[:, 3]) - torch.atan2(first[:, 2], first[:, 3])
    form = 4 / math.pi**2 * turn.square()
    with torch.no_grad():
        weight = form / (1 - ratio + form + _TINY)
    return ratio - distance / (enclosing.square().sum(dim=1) + _TINY) - weight * form


def _overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """IoU of boxes of corners (…, 4), broadcast against each other."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    return common / (_area(first) + _area(second) - common + _TINY)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
