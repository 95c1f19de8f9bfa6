"""`retrim glue`, as its users call it, on a tiny checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from retrim.recipe.glue import read_glue_recipe
from retrim.torch import PackedLinear

GLUE_RECIPES = Path(__file__).parents[3] / "recipes" / "glue"
RECIPE = """
version = 1
batch = 8
max_length = 16
rate = 2
structure = { type = "BlockColumns", rows = 8 }
pruner = { type = "ReweightedGroupLasso", every_epochs = 0.5 }
distil = { logits = 0.5, hidden = 1.0 }
[dense]
epochs = 2
rate = 1e-3
optimizer = "adam"
[prune]
epochs = 1
rate = 1e-3
optimizer = "adam"
[retrain]
epochs = 1
rate = 1e-3
optimizer = "adam"
score_after = [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 24), ("dev", 12)):
        path = tmp_path / "glue" / "SST-2" / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"it was a {'fine' if number % 2 else 'dull'} day\t{number % 2}\n" for number in range(count)
        ]
        path.write_text("sentence\tlabel\n" + "".join(lines))
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def call(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retrim.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "HF_HUB_OFFLINE": "1"},
        check=False,
    )


def test_a_checkpoint_is_pruned_saved_and_packed(folder: Path, checkpoint: Path) -> None:
    options = ["glue", "--task", "sst2", "--model", str(checkpoint), "--recipe", "r.toml"]
    options += ["--data", "glue", "--out", "run", "--threads", "1", "--json", "r.json"]
    done = call(*options, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "sst2 at 2x: " in done.stdout
    found = json.loads((folder / "r.json").read_text())
    assert set(found["row"]["score"]) == {"0", "1"}
    assert found["row"]["plan_rate"] == pytest.approx(2, rel=0.01)
    assert found["packed_score"]["score"] == pytest.approx(found["row"]["score"]["1"]["score"], abs=1e-6)
    assert len(found["densities"]) == 12
    assert min(found["bytes"].values()) > 10_000  # embeddings and manifests outweigh so tiny layers
    assert found["latency"]["ms_packed"] > 0

    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(folder / "run" / "pruned").eval()
    packed = AutoModelForSequenceClassification.from_pretrained(folder / "run" / "packed").eval()
    words = torch.arange(4, 12)[None]
    with torch.inference_mode():
        wanted, reached = plain(words).logits, packed(words).logits
    assert float((wanted - reached).abs().max()) <= 1e-4 * float(wanted.abs().max())
    assert PackedLinear in {type(module) for module in packed.modules()}

    again = call(*options, folder=folder)
    assert again.returncode == 0, again.stderr
    # with the seconds that a step took: nothing was trained again
    assert json.loads((folder / "r.json").read_text())["row"] == found["row"]

    packing = ["pack", "run/pruned", "--no-calibrate", "--precision", "auto", "--json", "p.json"]
    repacked = call(*packing, folder=folder)
    assert repacked.returncode == 0, repacked.stderr
    told = json.loads((folder / "p.json").read_text())
    assert (told["artifact"], len(told["layers"])) == (
        "run/pruned-packed",
        12,
    )  # of each weight the fastest pack
    assert told["bytes"] == (folder / "run" / "pruned-packed" / "model.safetensors").stat().st_size

    dev = folder / "glue" / "SST-2" / "dev.tsv"
    dev.write_text(dev.read_text().replace("fine", "dull"))
    other = call(*options[:7], "--data", ".", *options[9:], folder=folder)  # a folder with GLUE's in it
    assert other.returncode == 2
    assert other.stderr == (
        "retrim: 'run' must hold scores on the same examples, but those of 'sst2' were others when they were made: use "
        "another folder, or remove it\n"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"--task": "sst3"},
            "task must be one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, not 'sst3'",
        ),
        ({"--model": "nowhere"}, "model 'nowhere' must be the folder of a checkpoint, or a name that"),
        ({"--data": "elsewhere"}, "data must be GLUE's folder, but 'elsewhere' is none: name it by --data"),
        ({"--recipe": "missing.toml"}, "missing.toml"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, checkpoint: Path, changes: dict[str, str], sentence: str
) -> None:
    options = {"--task": "sst2", "--model": str(checkpoint), "--recipe": "r.toml", "--data": "glue"}
    done = call("glue", *(part for pair in {**options, **changes}.items() for part in pair), folder=folder)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "runs" / "glue-sst2").exists()
    assert not (folder / "runs" / "glue-sst3").exists()


@pytest.mark.parametrize("path", sorted(GLUE_RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_the_repository_are_right(path: Path) -> None:
    recipe = read_glue_recipe(path)
    assert recipe.retrain.score_after[-1] == recipe.retrain.epochs
    assert recipe.comparison("stsb", "m", None, ["*.weight"], 3).methods[0].seeds == (3,)
