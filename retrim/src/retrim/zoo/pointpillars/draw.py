"""Pictures of scans: from above, and boxes on the camera's image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from retrim.zoo.kitti.boxes import EDGES, corners
from retrim.zoo.kitti.calibration import Calibration

_TRUTH, _FOUND = "#3ddc5a", "#ff4030"
_DOTS = 100


def draw(
    points: np.ndarray,
    truth: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    *,
    span: tuple[float, float, float, float] = (0, -40, 70, 40),
    title: str = "",
) -> Image.Image:
    """A scan from above, x to the right; points coloured by height.

    Parameters
    ----------
    points : ndarray, shape (n, 4)
    truth, predicted : ndarray, shape (n, 7)
        Drawn green and red, with a line from the centre to the front.
    scores : ndarray, shape (n,)
        Of predicted boxes, written beside them.
    span : (x, y, x, y)
        Lower and upper corner in metres.
    """
    width = 12.0
    height = width * (span[3] - span[1]) / (span[2] - span[0])
    figure = Figure(figsize=(width, height), dpi=_DOTS, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), facecolor="black")
    axes.set_xlim(span[0], span[2])
    axes.set_ylim(span[1], span[3])
    axes.scatter(points[:, 0], points[:, 1], c=points[:, 2], s=1.0, lw=0, cmap="viridis", vmin=-2.0, vmax=1.0)
    if truth is not None:
        _outline(axes, truth, _TRUTH, 1.8)
    if predicted is not None:
        _outline(axes, predicted, _FOUND, 1.2)
        for box, score in zip(predicted, [] if scores is None else scores, strict=scores is not None):
            axes.text(box[0], box[1] + 1.2, f"{score:.2f}", color=_FOUND, fontsize=8, clip_on=True)
    axes.text(0.01, 0.98, title, color="white", transform=axes.transAxes, va="top", fontsize=12)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]


def draw_on_image(image: Image.Image, boxes: np.ndarray, calibration: Calibration) -> Image.Image:
    """Boxes (n, 7) in the scanner's coordinates on a copy of the camera's image."""
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    ends = calibration.to_camera(corners(np.asarray(boxes, dtype=np.float64)))
    pixels, depth = calibration.project(ends)
    for box, far in zip(pixels, depth, strict=True):
        for first, second in EDGES:
            if min(far[first], far[second]) > 0:
                pen.line([*map(float, box[first]), *map(float, box[second])], fill=_TRUTH, width=2)
    return drawn


def _outline(axes: Axes, boxes: np.ndarray, colour: str, width: float) -> None:
    for box, ends in zip(boxes, corners(np.asarray(boxes, dtype=np.float64)), strict=True):
        ring = ends[[0, 1, 2, 3, 0], :2]
        axes.plot(ring[:, 0], ring[:, 1], color=colour, lw=width)
        front = ends[:2, :2].mean(axis=0)
        axes.plot([box[0], front[0]], [box[1], front[1]], color=colour, lw=width)
