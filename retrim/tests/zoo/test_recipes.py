"""Every recipe that compares pruners: its plan fits its network, and two steps of it run, on data made here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retrim.recipe.comparing import Branch, ComparisonRun
from retrim.recipe.comparison import Comparison, SLRMethod, read_comparison
from retrim.zoo import pointpillars
from retrim.zoo.cifar import CLASSES
from retrim.zoo.classifiers import build
from retrim.zoo.darknet import DarknetNetwork
from retrim.zoo.pointpillars import PointPillars
from retrim.zoo.synth import kitti as made_scans
from retrim.zoo.synth import tusimple as made_scenes
from retrim.zoo.ultrafast import PAPER, SMALL, UltraFast

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted([*(FOLDER / "slr").glob("*.toml"), *(FOLDER / "glue" / "compare").glob("*.toml")])
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])


@each_recipe
def test_its_plan_fits_its_network(path: Path) -> None:
    found = read_comparison(path)
    cfg = cfg_of(found.task)
    with torch.device("meta"):
        model = network_of(found.task, cfg)
    for forms in found.forms:
        for rate in forms.rates:
            targets = forms.plan(rate).resolve(model)
            pruned = [target.name for target in targets]
            assert not {"conv1.weight", "layers.0.conv.weight"} & set(pruned)  # the stem stays dense
            if isinstance(model, DarknetNetwork):
                assert all(
                    model.get_submodule(name.removesuffix(".conv.weight")).conv.bias is None
                    for name in pruned
                )
                assert all(len(target.parameter[0]) > 1 for target in targets)  # neither heads nor depthwise
            reached = sum(t.reached * t.parameter.numel() for t in targets)
            assert sum(t.parameter.numel() for t in targets) / reached == pytest.approx(rate, rel=0.02)


LARGE = ("yolov3-coco", "resnet50-imagenet", "vgg16-imagenet", "ultrafast-tusimple", "pointpillars-kitti")


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in LARGE else []) for p in RECIPES],
)
def test_two_steps_run(
    path: Path,
    tmp_path: Path,
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = read_comparison(path)
    few = shortened(found, folders[found.task.type], cfg_of(found.task))
    if found.task.type == "glue":
        tiny = few.task.model_copy(
            update={"model": str(request.getfixturevalue("checkpoint")), "max_length": 16, "examples": 0}
        )
        few = few.model_copy(update={"task": tiny})
    run = ComparisonRun(few, folders[found.task.type].parent, tmp_path / "run")
    monkeypatch.setattr(type(run.task), "steps", property(lambda task: 2))
    chosen = next((method for method in few.methods if isinstance(method.pruner, SLRMethod)), few.methods[0])
    rate = few.forms[0].rates[-1]
    row = run.row(Branch(few.forms[0], rate, chosen, 0, 0.01))
    if isinstance(chosen.pruner, SLRMethod):
        assert row["updates"][-1]["step"] == 2
    assert row["plan_rate"] == pytest.approx(rate, rel=0.05)  # few columns of a tiny network come less close
    assert all(np.isfinite(row["score"][after][run.task.metric]) for after in ("0", "1"))


def cfg_of(task: Any) -> Path | None:
    """The cfg that a recipe names, from the folder of real data, whatever folder it lies in there."""
    if task.type != "coco":
        return None
    folder = Path(os.environ.get("RETRIM_DATA", Path(__file__).parents[4] / "shared" / "data")) / "yolo"
    path = next(folder.rglob(Path(task.cfg).name), None)
    if path is None:
        pytest.skip(f"{Path(task.cfg).name} is not in {folder}; set RETRIM_DATA to the folder of the data")
    return path


def shortened(found: Comparison, data: Path, cfg: Path | None) -> Comparison:
    """The recipe with two small batches, no public weights, and one epoch of everything."""
    task: dict[str, Any] = {"data": data.name, "batch": 2}
    if "weights" in type(found.task).model_fields:
        task |= {"weights": None}
    if found.task.type == "cifar10":
        task |= {"images": 0}
    if found.task.type == "imagenet":
        task |= {"size": 64, "workers": 1}
    if found.task.type == "tusimple":
        task |= {"trunk": None}
    if cfg is not None:
        task |= {"cfg": str(cfg), "size": 64, "workers": 1}
    return found.model_copy(
        update={
            "task": found.task.model_copy(update=task),
            "dense": None,
            "prune": found.prune.model_copy(update={"epochs": 1}),
            "retrain": found.retrain.model_copy(update={"epochs": 1, "score_after": (0, 1)}),
        }
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny folder of data for each kind of task."""
    root = tmp_path_factory.mktemp("data")
    for name, make in MAKERS.items():
        make(root / name)
    return {name: root / name for name in MAKERS}


def _classes(parts: tuple[str, str], size: int) -> Callable[[Path], None]:
    """Folders of noise, by class."""

    def make(folder: Path) -> None:
        random = np.random.default_rng(0)
        for part in parts:
            for label in CLASSES:
                to = folder / part / label
                to.mkdir(parents=True)
                Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(to / "a.png")

    return make


def _boxes(folder: Path) -> None:
    """Noise with a box in each image."""
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        for name in range(4):
            image = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
            image.save(folder / part / "images" / f"{name}.jpg")
            (folder / part / "labels" / f"{name}.txt").write_text(f"{name} 0.5 0.4 0.6 0.5\n")


def _texts(folder: Path) -> None:
    """Sentences and pairs of them, with their labels."""
    tables = {
        "STS-B": "sentence1\tsentence2\tscore\na day\tit was\t1.5\nit\twas\t4\na\tday\t0\nwas\ta\t2\n",
        "RTE": "sentence1\tsentence2\tlabel\na day\tit was\tentailment\nit\twas\tnot_entailment\n"
        "a\tday\tentailment\nwas\ta\tnot_entailment\n",
        "SST-2": "sentence\tlabel\na day\t1\nit was\t0\nday\t1\nwas\t0\n",
    }
    for task, table in tables.items():
        for split in ("train", "dev"):
            path = folder / task / f"{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(table)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "cifar10": _classes(("train", "test"), 32),
    "imagenet": _classes(("train", "val"), 80),
    "coco": _boxes,
    "glue": _texts,
    "tusimple": lambda folder: made_scenes.synthesise(folder, training=4, validation=1),
    "kitti": lambda folder: made_scans.synthesise(folder, training=4, validation=2),
}


BERTS: dict[str, Callable[[Any], Any]] = {
    "sentence-transformers/all-MiniLM-L6-v2": lambda transformers: transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ),
}
"""Configurations of the checkpoints that recipes name."""


def network_of(task: Any, cfg: Path | None) -> nn.Module:
    """The network of a recipe, without its data."""
    if cfg is not None:
        return DarknetNetwork.read(cfg)
    if task.type == "glue":
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        return transformers.AutoModelForSequenceClassification.from_config(BERTS[task.model](transformers))
    if task.type == "tusimple":
        return UltraFast(SMALL if task.config == "small" else PAPER)
    if task.type == "kitti":
        return PointPillars(pointpillars.SMALL if task.config == "small" else pointpillars.PAPER)
    return build(task.network, 10, images="cifar" if task.type == "cifar10" else "imagenet")
