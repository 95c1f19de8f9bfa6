"""Tasks by the names that recipes give them.  Paths are taken from a folder of data that the user points at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from retrim.errors import ConfigError
from retrim.recipe.part import Part
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


TaskPart = Annotated[CifarPart | FolderPart, Field(discriminator="type")]

PATHS = ("data", "weights")
"""Fields that name files in the folder of data."""


def make_task(part: CifarPart | FolderPart, folder: Path) -> Task:
    """The task, its files looked for in `folder`.

    Raises
    ------
    ConfigError
        If a file is not there.
    """
    from retrim.zoo.classification import CifarTask, FolderTask

    options: dict[str, Any] = part.model_dump(exclude={"type"})
    for name in PATHS:
        given = options.get(name)
        if given is None:
            continue
        path = folder / given
        if not path.exists():
            raise ConfigError(
                f"task.{name} must be a file or folder of {str(folder)!r}, but {given!r} is not there: give the "
                "folder of your data by --data, or its name in the recipe"
            )
        options[name] = path
    return (CifarTask if isinstance(part, CifarPart) else FolderTask)(**options)
