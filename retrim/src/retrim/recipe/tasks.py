"""Tasks by the names that recipes give them.  Paths are taken from a folder of data that the user points at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from retrim.errors import ConfigError, MissingExtraError
from retrim.recipe.part import Part
from retrim.recipe.schema import DistilPart
from retrim.zoo.glue.tasks import find_task
from retrim.zoo.task import Task


class CifarPart(Part):
    """`retrim.zoo.classification.CifarTask`."""

    type: Literal["cifar10"]
    data: str = "cifar10_jpg.tar.xz"
    network: str = "resnet20"
    weights: str | None = None
    batch: int = Field(default=128, ge=1)
    images: int = Field(default=0, ge=0)


class FolderPart(Part):
    """`retrim.zoo.classification.FolderTask`."""

    type: Literal["imagenet"]
    data: str = "imagenet"
    network: str = "resnet18"
    weights: str | None = None
    batch: int = Field(default=256, ge=1)
    size: int = Field(default=224, ge=32)
    workers: int = Field(default=8, ge=1)


class LaneAugmentationPart(Part):
    """`retrim.zoo.ultrafast.augmentation.Augmentation`: how far images are moved at most."""

    rotation: float = Field(default=6.0, ge=0, le=45)
    across: float = Field(default=200 / 1280, ge=0, le=0.5)
    down: float = Field(default=100 / 720, ge=0, le=0.5)
    reflect: float = Field(default=0.5, ge=0, le=1)


class LanesPart(Part):
    """`retrim.zoo.ultrafast.LaneTask`: Ultra-Fast-Lane-Detection on TuSimple, or on anything in its layout."""

    type: Literal["tusimple"]
    data: str = "tusimple"
    config: Literal["paper", "small"] = "paper"
    batch: int = Field(default=32, ge=1)
    augment: bool | LaneAugmentationPart = True
    weights: str | None = None
    trunk: str | None = None


class ScansPart(Part):
    """`retrim.zoo.pointpillars.PointPillarsTask`: PointPillars on KITTI, or on anything in its layout."""

    type: Literal["kitti"]
    data: str = "kitti"
    config: Literal["paper", "small"] = "paper"
    batch: int = Field(default=4, ge=1)
    augment: bool = True
    weights: str | None = None


class ImageAugmentationPart(Part):
    """`retrim.zoo.coco.Augmentation`: how far images are moved and coloured at most."""

    jitter: float = Field(default=0.15, ge=0, le=0.45)
    flip: float = Field(default=0.5, ge=0, le=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    saturation: float = Field(default=1.5, ge=1, allow_inf_nan=False)
    exposure: float = Field(default=1.5, ge=1, allow_inf_nan=False)
    mosaic: float = Field(default=0.0, ge=0, le=1)


class ImagesPart(Part):
    """`retrim.zoo.darknet.DarknetTask`: a detector from a `.cfg` on COCO, or on anything in its layouts."""

    type: Literal["coco"]
    data: str = "coco"
    cfg: str
    weights: str | None = None
    batch: int = Field(default=16, ge=1)
    size: int = Field(default=0, ge=0)
    keep_aspect: bool = True
    augment: bool | ImageAugmentationPart = True
    workers: int = Field(default=2, ge=1)


class GluePart(Part):
    """`retrim.zoo.glue.FineTuning`: a checkpoint of Hugging Face on one of GLUE's tasks.

    `model` is looked for in the folder of data first, then as a folder or a name on the Hub.
    """

    type: Literal["glue"]
    task: str
    model: str
    data: str | None = "glue"
    batch: int = Field(default=32, ge=1)
    max_length: int = Field(default=128, ge=8)
    examples: int = Field(default=0, ge=0)
    bucketed: bool = True
    distil: DistilPart | None = None
    unlabelled: float = Field(default=0.0, ge=0, lt=1)
    texts: tuple[str, ...] = ()


class LanguagePart(Part):
    """`retrim.zoo.language.LanguageTask`: a causal Transformer on text."""

    type: Literal["language"]
    text: str | None = None
    held_out: str | None = None
    library: bool = False
    vocabulary: int = Field(default=2048, ge=300, le=65536)
    width: int = Field(default=256, ge=1)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    context: int = Field(default=128, ge=1)
    expansion: int = Field(default=4, ge=1)
    batch: int = Field(default=8, ge=1)
    windows: int = Field(default=0, ge=0)
    scored: int = Field(default=0, ge=0)
    distil: DistilPart | None = None


AnyTask = CifarPart | FolderPart | GluePart | LanesPart | LanguagePart | ScansPart | ImagesPart
TaskPart = Annotated[AnyTask, Field(discriminator="type")]

PATHS = ("data", "weights", "trunk", "cfg", "text", "held_out")
"""Fields that name files in the folder of data."""


def make_task(part: AnyTask, folder: Path) -> Task:
    """The task, its files looked for in `folder`.

    Raises
    ------
    ConfigError
        If a file is not there.
    MissingExtraError
        If what reads the data is not installed.
    """
    try:
        make = _makers()[part.type]
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"task {part.type!r} needs {error.name}: pip install 'retrim[zoo]'") from None
    options: dict[str, Any] = part.model_dump(exclude={"type"})
    for name in PATHS:
        given = options.get(name)
        if given is None:
            continue
        path = folder / given
        if (
            isinstance(part, GluePart)
            and not path.exists()
            and (folder / find_task(part.task).folder).is_dir()
        ):
            path = folder  # GLUE's own
        if not path.exists():
            raise ConfigError(
                f"task.{name} must be a file or folder of {str(folder)!r}, but {given!r} is not there: give the "
                "folder of your data by --data, or its name in the recipe"
            )
        options[name] = path
    if isinstance(part, GluePart) and (folder / part.model).is_dir():
        options["model"] = str(folder / part.model)
    return make(options)


def _makers() -> dict[str, Callable[[dict[str, Any]], Task]]:
    """How each task is made of its options; what reads images is loaded here."""
    from retrim.torch import Distillation
    from retrim.zoo import coco, kitti, pointpillars, ultrafast
    from retrim.zoo.classification import CifarTask, FolderTask
    from retrim.zoo.darknet.task import DarknetTask
    from retrim.zoo.glue.finetuning import FineTuning
    from retrim.zoo.language import LanguageTask
    from retrim.zoo.pointpillars.task import PointPillarsTask
    from retrim.zoo.ultrafast.augmentation import Augmentation

    def lanes(options: dict[str, Any]) -> Task:
        config = {"paper": ultrafast.PAPER, "small": ultrafast.SMALL}[options.pop("config")]
        augment = options.pop("augment")
        augmentation = Augmentation(**(augment if isinstance(augment, dict) else {})) if augment else None
        return ultrafast.LaneTask(
            folder=options.pop("data"), config=config, augmentation=augmentation, **options
        )

    def scans(options: dict[str, Any]) -> Task:
        config = {"paper": pointpillars.PAPER, "small": pointpillars.SMALL}[options.pop("config")]
        augmentation = kitti.Augmentation() if options.pop("augment") else None
        return PointPillarsTask(
            folder=options.pop("data"), config=config, augmentation=augmentation, **options
        )

    def images(options: dict[str, Any]) -> Task:
        augment = options.pop("augment")
        augmentation = (
            coco.Augmentation(**(augment if isinstance(augment, dict) else {})) if augment else None
        )
        return DarknetTask(folder=options.pop("data"), augmentation=augmentation, **options)

    def texts(options: dict[str, Any]) -> Task:
        distil = options.pop("distil")
        return FineTuning(distillation=None if distil is None else Distillation(**distil), **options)

    def language(options: dict[str, Any]) -> Task:
        distil = options.pop("distil")
        return LanguageTask(distillation=None if distil is None else Distillation(**distil), **options)

    return {
        "cifar10": lambda options: CifarTask(**options),
        "imagenet": lambda options: FolderTask(**options),
        "coco": images,
        "glue": texts,
        "kitti": scans,
        "language": language,
        "tusimple": lanes,
    }
