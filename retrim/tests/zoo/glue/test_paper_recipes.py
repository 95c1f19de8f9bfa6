"""Recipes of the paper's rows: each is right, and two steps of each model family run on a tiny one of its architecture."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrim.errors import CheckpointError, ConfigError
from retrim.recipe.glue import GlueRecipe, read_glue_recipe, run_glue
from retrim.recipe.part import checked
from retrim.zoo.glue import TASKS

FOLDER = Path(__file__).parents[3] / "recipes" / "glue"
PAPER = sorted((FOLDER / "paper").glob("*.toml"))
FAMILIES = {"bert-base": "bert", "roberta-base": "roberta", "distilbert": "distilbert"}
each = pytest.mark.parametrize("path", PAPER, ids=[path.stem for path in PAPER])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve sentences to learn from, in two classes, and twelve to score on."""
    for split in ("train", "dev"):
        path = tmp_path / "glue" / "SST-2" / f"{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"it was a {'fine' if number % 3 else 'dull'} day\t{number % 2}\n" for number in range(12)]
        path.write_text("sentence\tlabel\n" + "".join(lines))
    return tmp_path / "glue"


@pytest.fixture
def tiny(checkpoint: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of two layers of a family, with random weights and a tokenizer of whole words."""

    def tiny(family: str) -> Path:
        import transformers as hf

        small = {"vocab_size": 14, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        small |= {"intermediate_size": 64, "max_position_embeddings": 40}
        torch.manual_seed(0)
        if family == "distilbert":
            config: Any = hf.DistilBertConfig(
                vocab_size=14, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=40
            )
        else:
            config = {"bert": hf.BertConfig, "roberta": hf.RobertaConfig}[family](**small)
        folder = tmp_path / family
        hf.AutoModel.from_config(config).save_pretrained(folder)
        for path in checkpoint.glob("tokenizer*.json"):
            shutil.copy(path, folder)
        if family != "bert":  # they take no kinds of sentences
            spec = json.loads((folder / "tokenizer_config.json").read_text())
            spec["model_input_names"] = ["input_ids", "attention_mask"]
            (folder / "tokenizer_config.json").write_text(json.dumps(spec))
        return folder

    return tiny


def shortened(recipe: GlueRecipe, **more: Any) -> GlueRecipe:
    """The recipe with two small batches in an epoch, and one epoch of everything."""
    assert recipe.dense is not None
    few = {
        "batch": 6,
        "max_length": 16,
        "structure": type(recipe.structure)(rows=8),
        "dense": recipe.dense.model_copy(update={"epochs": 1}),
        "prune": recipe.prune.model_copy(update={"epochs": 1}),
        "pruner": recipe.pruner.model_copy(update={"over_epochs": 1}),
        "retrain": recipe.retrain.model_copy(update={"epochs": 1, "score_after": (0, 1)}),
    }
    return recipe.model_copy(update=few | more)


def test_a_recipe_for_each_family() -> None:
    assert {path.stem for path in PAPER} == set(FAMILIES)


@each
def test_it_is_right(path: Path) -> None:
    recipe = read_glue_recipe(path)
    assert recipe.tasks == tuple(TASKS)
    assert recipe.model is not None and path.stem.split("-")[0] in recipe.model
    assert recipe.every_rate == ((1.79,) if path.stem == "distilbert" else (5.0,))
    assert recipe.retrain.score_after[-1] == recipe.retrain.epochs


@each
def test_two_steps_run(path: Path, tiny: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    recipe = shortened(read_glue_recipe(path))
    result = run_glue(recipe, "sst2", str(tiny(FAMILIES[path.stem])), data, tmp_path / "run")
    assert result["row"]["plan_rate"] == pytest.approx(recipe.every_rate[0], rel=0.1)
    assert set(result["row"]["score"]) == {"0", "1"}
    assert result["packed_score"]["score"] == pytest.approx(result["row"]["score"]["1"]["score"], abs=1e-6)
    assert len(result["densities"]) == 12
    assert (tmp_path / "run" / "packed" / "model.safetensors").is_file()


def test_heads_and_densities_by_sensitivity(tiny: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    """`half-uneven.toml` on a tiny BERT: a quarter of the heads, a budget that is kept, measurements on disk."""
    recipe = shortened(read_glue_recipe(FOLDER / "half-uneven.toml"))
    told: list[str] = []
    folder = tiny("bert")
    result = run_glue(
        recipe, "sst2", str(folder), data, tmp_path / "run", progress=lambda name, *_: told.append(name)
    )
    assert result["row"]["plan_rate"] == pytest.approx(2, rel=0.1)
    assert result["row"]["plan_rate"] >= 2 - 1e-9  # the budget holds
    assert len(set(result["densities"].values())) > 2
    query = [value for name, value in result["densities"].items() if "attention" in name]
    assert len(query) == 8 and max(query) <= 0.75
    (kept,) = (tmp_path / "run").glob("sensitivity-*.json")
    assert len(json.loads(kept.read_text())["weights"]) == 12
    assert "sensitivity" in told
    again = run_glue(recipe, "sst2", str(folder), data, tmp_path / "run")
    assert again["row"] == result["row"] and again["densities"] == result["densities"]
    other = run_glue(
        recipe.model_copy(update={"heads": None, "densities": "uniform"}),
        "sst2",
        str(folder),
        data,
        tmp_path / "run",
    )
    assert len(set(other["densities"].values())) == 1  # a branch of its own


def test_another_checkpoint_of_the_same_name(tiny: Callable[[str], Path], data: Path, tmp_path: Path) -> None:
    recipe = shortened(read_glue_recipe(PAPER[0]))
    folder = tiny("bert")
    first = run_glue(recipe, "sst2", str(folder), data, tmp_path / "run")
    assert run_glue(recipe, "sst2", str(folder), data, tmp_path / "run")["row"] == first["row"]
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: 2 * value for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError) as caught:
        run_glue(recipe, "sst2", str(folder), data, tmp_path / "run")
    assert str(caught.value) == (
        f"{str(tmp_path / 'run')!r} must hold runs of one checkpoint, but what lay under {str(folder)!r} when they were "
        "made was another: use another folder, or remove it"
    )


def test_several_rates_have_folders_of_their_own(
    tiny: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    recipe = shortened(read_glue_recipe(PAPER[0]), rates=(2.0, 4.0))
    folder = tiny("bert").name  # it lies beside the data
    results = [
        run_glue(recipe, "sst2", folder, data, tmp_path / "run", rate=rate) for rate in recipe.every_rate
    ]
    assert [result["row"]["plan_rate"] for result in results] == pytest.approx([2, 4])
    assert len(list((tmp_path / "run").glob("dense-*.pt"))) == 1
    for rate in ("2x", "4x"):
        assert (tmp_path / "run" / rate / "pruned" / "config.json").is_file()
    with pytest.raises(ConfigError) as caught:
        run_glue(recipe, "sst2", folder, data, tmp_path / "run")
    assert str(caught.value) == "one of the recipe's rates must be chosen, 2, 4"
    with pytest.raises(ConfigError) as caught:
        run_glue(recipe, "sst2", folder, data, tmp_path / "run", rate=0.5)
    assert str(caught.value) == "rate must be a number >= 1 (weights over kept weights), not 0.5"


def test_tasks_and_models_of_a_recipe(data: Path, tmp_path: Path) -> None:
    recipe = read_glue_recipe(PAPER[0]).model_copy(update={"tasks": ("rte", "cola")})
    with pytest.raises(ConfigError) as caught:
        run_glue(recipe, "sst2", "m", data, tmp_path)
    assert str(caught.value) == "task must be one of the recipe's, rte, cola, not 'sst2'"
    with pytest.raises(ConfigError) as caught:
        run_glue(recipe.model_copy(update={"model": None}), "rte", None, data, tmp_path)
    assert str(caught.value) == "a model must be named by --model, since the recipe names none"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("rates = [2, 3]", "a recipe must have either a rate or rates"),
        (
            'tasks = ["sst3"]',
            "task must be one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, not 'sst3'",
        ),
        ("heads = 0", "heads must be greater than 0, not 0"),
        ('densities = "even"', "densities must be 'uniform' or 'sensitivity', not 'even'"),
        (
            "sensitivity = { floor = 0.2 }",
            "sensitivity must come with densities = 'sensitivity', or be left out",
        ),
        (
            'densities = "sensitivity"\nsensitivity = { floor = 0.5, ceiling = 0.25 }',
            "floor must be at most the ceiling 0.25, not 0.5",
        ),
        (
            'densities = "sensitivity"\nsensitivity = { grid = [0.5, 0.5] }',
            "grid must hold each density once, not [0.5, 0.5]",
        ),
        (
            'densities = "sensitivity"\nsensitivity = { grid = [2.0] }',
            "density must be a number with 0 < density <= 1, not 2.0",
        ),
        ('densities = "sensitivity"\nsensitivity = { grids = [1] }', "its keys are ceiling, floor, grid"),
    ],
)
def test_recipes_that_are_wrong(change: str, sentence: str, tmp_path: Path) -> None:
    text = (FOLDER / "half.toml").read_text().replace("version = 1", f"version = 1\n{change}")
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_glue_recipe(tmp_path / "r.toml")
    assert sentence in str(caught.value)


def test_a_schedule_that_would_not_arrive() -> None:
    table = tomllib.loads(PAPER[0].read_text())
    table["pruner"]["over_epochs"] = table["prune"]["epochs"] + 1
    with pytest.raises(
        ConfigError, match=r"^recipe 'r': over_epochs must be at most the \d+ epochs of pruning, not \d+$"
    ):
        checked(GlueRecipe, table, "r")
