"""What the zoo's detectors find, drawn: objects, lanes and boxes around points.

    python retrim/experiments/pictures.py --data DIR [--out runs/pictures]

Yolo-Fastest with its public weights on held-out images of COCO-128.  For lanes and scans there are
only a few real frames here, so small networks learn these few by heart (which shows that
loader, targets, loss, decoding and drawing agree): four frames of TuSimple, three of KITTI.
"""

from __future__ import annotations

import argparse
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from retrim.zoo import coco, pointpillars, ultrafast
from retrim.zoo.darknet import Detections, draw, read_names
from retrim.zoo.darknet.task import DarknetTask
from retrim.zoo.fit import Stage, fit
from retrim.zoo.kitti.frame import Frame
from retrim.zoo.pointpillars.draw import draw as draw_scan
from retrim.zoo.pointpillars.task import PointPillarsTask
from retrim.zoo.task import Task
from retrim.zoo.ultrafast.draw import draw as draw_lanes
from retrim.zoo.ultrafast.task import Loaded

SHOWN = 0.3  # the least score that is drawn


class AllScans(PointPillarsTask):
    """Learns every frame of a folder, and nothing else."""

    @cached_property
    def training(self) -> list[Frame]:
        names = sorted(path.stem for path in (self.folder / "training" / "velodyne").glob("*.bin"))
        return [Frame(self.folder / "training", name) for name in names]


def objects(data: Path) -> Image.Image:
    """Eight held-out images with what Yolo-Fastest 1.1-xl finds."""
    yolo = data / "yolo"
    task = DarknetTask(
        folder=data / "coco128",
        cfg=yolo / "yolo-fastest-1.1-xl.cfg",
        weights=yolo / "yolo-fastest-1.1-xl.weights",
        keep_aspect=False,
        score_above=SHOWN,
    )
    chosen = coco.CocoDataset(task.held_out.frames[16:24], task.held_out.names)
    found = task.predict(task.build(0), chosen)
    names = read_names(yolo / "coco.names")
    return sheet([drawn(chosen[index][0], one, names) for index, one in enumerate(found)], 4, (480, 360))


def drawn(image: np.ndarray, found: coco.Detections, names: tuple[str, ...]) -> Image.Image:
    """An image with boxes in its own pixels."""
    boxes, scores, labels = (torch.from_numpy(part) for part in (found.boxes, found.scores, found.labels))
    return draw(image, Detections(boxes, scores, labels), names)


def lanes(data: Path) -> Image.Image:
    """All frames of TuSimple that are here; labels green, found red."""
    task = ultrafast.LaneTask(folder=data / "tusimple", config=ultrafast.SMALL, batch=4, augmentation=None)
    model = learnt(task, epochs=150, rate=3e-3)
    loaded: Loaded = task.training
    pictures = [
        draw_lanes(frame.read(), np.asarray(frame.rows), frame.lanes, predicted)
        for frame, predicted in zip(loaded.frames, task.predict(model, loaded), strict=True)
    ]
    return sheet(pictures, 3, (640, 360))


def scans(data: Path) -> Image.Image:
    """Three frames of KITTI from above; labels green, found red."""
    config = pointpillars.SMALL
    task = AllScans(folder=data / "kitti", config=config, batch=3, augmentation=None)
    model = learnt(task, epochs=250, rate=3e-3)
    pictures = []
    for frame, found in zip(task.training, task.detect(model, task.training), strict=True):
        kept = found.scores > SHOWN
        boxes, _ = frame.boxes(config.classes)
        span = (config.low[0], config.low[1], config.high[0], config.high[1])
        pictures.append(
            draw_scan(
                frame.points(), boxes, found.boxes[kept], found.scores[kept], span=span, title=frame.name
            )
        )
    return sheet(pictures, 3, (800, 800))


def learnt(task: Task, *, epochs: int, rate: float) -> torch.nn.Module:
    """A network that has seen its few frames often; batch norm's averages follow fast."""
    model = task.build(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 0.1
    fit(task, model, Stage(epochs=epochs, rate=rate, optimizer="adam", decay=0.0, clip=10), seed=0)
    return model


def sheet(pictures: list[Image.Image], columns: int, size: tuple[int, int]) -> Image.Image:
    """Pictures side by side, each within `size` (width, height)."""
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * size[0], rows * size[1]), (20, 20, 20))
    for index, picture in enumerate(pictures):
        picture.thumbnail(size)
        page.paste(picture, (index % columns * size[0], index // columns * size[1]))
    return page


def main() -> None:
    """Draw, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/pictures"))
    parser.add_argument("--only", choices=("objects", "lanes", "scans"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, make in (("objects", objects), ("lanes", lanes), ("scans", scans)):
        if options.only in (None, name):
            make(options.data).save(options.out / f"{name}.jpg", quality=80)
            print(options.out / f"{name}.jpg")


if __name__ == "__main__":
    main()
