"""The same tasks from the Hugging Face Hub, through its `datasets` package."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np

from retrim.errors import ConfigError, DataError, MissingExtraError
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.tasks import MOST_SIMILAR, GlueTask, find_task

REPOSITORY = "nyu-mll/glue"


def load_hub(task: GlueTask | str, split: str) -> Examples:
    """One split of a task, from the network or from the copy that `datasets` keeps.

    Parameters
    ----------
    task : GlueTask or str
        Or its key, as "rte".
    split : str
        As of `read_glue`; the Hub's own name ("validation") is found by it.

    Raises
    ------
    ConfigError
        If there is no such task or split, or the Hub cannot be reached and `datasets` has kept no copy.
    DataError
        If the Hub's data are not as they were.
    MissingExtraError
        If `datasets` is not installed.
    """
    task = find_task(task) if isinstance(task, str) else task
    part = task.split(split)
    datasets = _datasets()
    try:
        data = datasets.load_dataset(REPOSITORY, task.key, split=part.hub)
    except _failures(datasets) as error:
        raise ConfigError(
            f"{task.folder} must come from the Hugging Face Hub or from a copy kept earlier, but neither is in reach "
            f"({type(error).__name__}): give a folder with {task.folder}/{part.name}.tsv to read_glue instead"
        ) from error
    return _examples(data, task)


def _datasets() -> Any:
    try:
        module = import_module("datasets")
    except ImportError:
        module = None
    if not hasattr(module, "load_dataset"):  # a folder of that name can be imported too, and is empty
        raise MissingExtraError(
            "GLUE from the Hugging Face Hub needs datasets: pip install datasets, or name a folder of GLUE's files by --data"
        ) from None
    return module


def _failures(datasets: Any) -> tuple[type[Exception], ...]:
    """What comes of a Hub that is out of reach.

    `datasets` raises its `DatasetsError`, ConnectionError (offline mode, no route), and
    ValueError where offline and no copy was kept; huggingface_hub's errors are OSErrors; those
    of its HTTP library pass through as they are.
    """
    found: list[type[Exception]] = [OSError, ValueError]
    exceptions = getattr(datasets, "exceptions", None)
    libraries = [sys.modules.get(name) for name in ("httpx", "httpx2")]
    for module, name in [(exceptions, "DatasetsError"), *((library, "HTTPError") for library in libraries)]:
        error = getattr(module, name, None)
        if isinstance(error, type) and issubclass(error, Exception):
            found.append(error)
    return tuple(found)


def _examples(data: Any, task: GlueTask) -> Examples:
    absent = [name for name in (*task.hub, "label") if name not in data.column_names]
    if absent:
        raise DataError(
            f"{REPOSITORY}, {task.key}, must have the columns {', '.join(task.hub)}, label, but lacks "
            f"{', '.join(absent)}: give a folder to read_glue instead"
        )
    texts = [list(data[name]) for name in task.hub]
    for name, column in zip(task.hub, texts, strict=True):
        if not all(isinstance(text, str) for text in column):
            raise DataError(
                f"{REPOSITORY}, {task.key}, must have text in every row of {name}, but has none in some: give a folder "
                "to read_glue instead"
            )
    labels = np.array(list(data["label"]), dtype=np.float64)  # None becomes NaN
    most = MOST_SIMILAR if task.regression else float(task.outputs - 1)
    if not len(labels) or not ((labels >= 0) & (labels <= most)).all():
        raise DataError(
            f"{REPOSITORY}, {task.key}, must have labels from 0 to {most:g}, but has others or none: give a folder to "
            "read_glue instead"
        )
    kind = np.float32 if task.regression else np.int64
    return Examples(texts[0], texts[1] if task.paired else None, labels.astype(kind))
