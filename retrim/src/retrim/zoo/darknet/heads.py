"""What a `[yolo]` section says about its head."""

from __future__ import annotations

from dataclasses import dataclass

from retrim.zoo.darknet.sections import Section


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head: its map has `stride` pixels of the input a cell.

    Attributes
    ----------
    anchors : tuple of (width, height)
        Of this head alone, in pixels of the network's input.
    classes : int
    stride : int
    ignore_thresh : float
        A prediction that overlaps a truth by more need not say that nothing is there.
    iou_thresh : float
        Anchors whose shape overlaps a truth by more learn it too; 1 leaves it to the best one.
    scale_x_y : float
        How far a centre may leave its cell: 1 not at all.
    """

    anchors: tuple[tuple[float, float], ...]
    classes: int
    stride: int
    ignore_thresh: float = 0.5
    iou_thresh: float = 1.0
    scale_x_y: float = 1.0

    @property
    def numbers(self) -> int:
        """Of each anchor: four of the box, objectness, classes."""
        return 5 + self.classes

    @property
    def channels(self) -> int:
        """Of the map."""
        return len(self.anchors) * self.numbers


def head_of(section: Section, stride: int) -> Head:
    """The head of a `[yolo]` section, with darknet's defaults.

    Raises
    ------
    ConfigError
        If an option is out of range, or `mask` names an anchor that is not there.
    """
    flat = section.numbers("anchors")
    count = section.whole("num", 1)
    if len(flat) != 2 * count or min(flat, default=0.0) <= 0:
        raise section.wrong(
            f"give num={count} anchors as pairs of numbers > 0",
            f"{len(flat)} numbers",
            "correct anchors or num",
        )
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))
    mask = section.wholes("mask", tuple(range(count)))
    if not mask or not all(0 <= index < count for index in mask) or len(set(mask)) < len(mask):
        raise section.wrong(
            f"give mask as different numbers from 0 to {count - 1}",
            f"mask={section.text('mask', '')}",
            "correct it",
        )
    return Head(
        anchors=tuple(pairs[index] for index in mask),
        classes=section.whole("classes", 20),
        stride=stride,
        ignore_thresh=_within(section, "ignore_thresh", 0.5, 0.0, 1.0),
        iou_thresh=_within(section, "iou_thresh", 1.0, 0.0, 1.0),
        scale_x_y=_within(section, "scale_x_y", 1.0, 1.0, 4.0),
    )


def _within(section: Section, key: str, default: float, low: float, high: float) -> float:
    value = section.number_of(key, default)
    if not low <= value <= high:
        raise section.wrong(f"give {key} as a number from {low} to {high}", f"{key}={value}", "correct it")
    return value
