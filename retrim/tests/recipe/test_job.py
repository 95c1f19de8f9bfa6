"""A recipe is carried out, found again, packed, scored and timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrim.artifact import load, save
from retrim.errors import ArtifactError, ConfigError
from retrim.recipe import job, read
from retrim.recipe.run import Run
from retrim.torch.levels import pack_levels


@pytest.fixture
def finished(recipe: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    job.prune(read(recipe), folder)
    return folder


def test_pruning_reports_what_it_did(recipe: Path, tmp_path: Path) -> None:
    told = []
    result = job.prune(
        read(recipe), tmp_path, lambda name, step, steps, loss: told.append((name, step, steps))
    )
    assert [entry["name"] for entry in result["weights"]] == [
        f"blocks.{i}.ffn.{name}.weight" for i in range(2) for name in ("up", "down")
    ]
    assert all(entry["density"] == 0.5 and 0 < entry["lost"] < 1 for entry in result["weights"])
    assert told == [("dense", i, 12) for i in range(1, 13)] + [("pruned", i, 10) for i in range(1, 11)]
    assert 0 < result["accuracy"] < 1 and result["perplexity"] > 1
    # a second call finds everything
    told.clear()
    again = job.prune(
        read(recipe), tmp_path, lambda name, step, steps, loss: told.append((name, step, steps))
    )
    assert told == []
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in result.items() if k != "seconds"
    }


def test_another_setting_is_another_stage(recipe: Path, tmp_path: Path) -> None:
    first = Run.of(read(recipe), tmp_path)
    recipe.write_text(recipe.read_text().replace("density = 0.5", "density = 0.25"))
    second = Run.of(read(recipe), tmp_path)
    assert first.dense.history.loss == second.dense.history.loss
    part = read(recipe).prune
    second.pruned(part)
    assert second.is_done(part) and not second.is_done(part.model_copy(update={"harden_at": 4}))


def test_packing_keeps_the_score(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    result = job.pack(finished, target)
    artifact = load(target)
    assert result["bytes"] == target.stat().st_size
    assert artifact.density == result["density"] == 0.5
    assert artifact.provenance["recipe"]["prune"]["pruner"]["type"] == "ReweightedGroupLasso"
    trained = Run.of(read(tmp_path / "small.toml"), finished).pruned(read(tmp_path / "small.toml").prune)
    for name, weight in artifact.weights.items():
        np.testing.assert_array_equal(weight.matrix(), trained.model.get_parameter(name).detach().numpy())
    scored = job.evaluate(target, tmp_path / "text.py")
    assert scored["accuracy"] == pytest.approx(artifact.metrics["accuracy"], abs=0.01)
    assert scored["perplexity"] == pytest.approx(artifact.metrics["perplexity"], rel=1e-4)


def test_timing_compares_like_with_like(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    job.pack(finished, target)
    threads = torch.get_num_threads()
    result = job.bench(target, tokens=16, threads=1, seconds=0.1)
    row = result["rows"][0]
    assert torch.get_num_threads() == threads
    assert row["ms_dense"] > 0 and row["ms_packed"] > 0
    assert row["speedup"] == pytest.approx(row["ms_dense"] / row["ms_packed"])
    share, fast = row["share_linears"], row["speedup_linears"]
    assert 0 < share < 1
    assert row["amdahl"] == pytest.approx(row["speedup"] * (1 - share + share / fast))
    assert [layer["density"] for layer in result["layers"]] == [0.5] * 4
    with pytest.raises(ConfigError, match=r"^tokens must be at most the model's context 32, not 33$"):
        job.bench(target, tokens=33, threads=1, seconds=0.1)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        job.pack(tmp_path, tmp_path / "model.safetensors")
    assert str(caught.value) == (
        f"run {str(tmp_path)!r} must be the folder of a finished run, but holds no recipe.json: call retrim "
        "prune first, or again where it was interrupted"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_checkpoint_is_gone_is_refused(finished: Path, tmp_path: Path) -> None:
    for path in finished.glob("branch-*.pt"):
        path.unlink()
    with pytest.raises(ConfigError) as caught:
        job.pack(finished, tmp_path / "model.safetensors")
    assert str(caught.value) == (
        f"run {str(finished)!r} must be finished before it is packed: call retrim prune again"
    )


def test_an_artifact_without_a_tokenizer_is_not_scored(tmp_path: Path, corpus: Path) -> None:
    from retrim.artifact import Artifact, Tensor, save

    path = tmp_path / "bare.safetensors"
    save(
        path,
        Artifact(architecture="x", config={}, tensors={"a": Tensor.of(np.zeros(3, np.float32))}, weights={}),
    )
    with pytest.raises(ArtifactError) as caught:
        job.evaluate(path, corpus)
    assert str(caught.value) == (
        f"artifact {str(path)!r} must hold a tokenizer to be scored on text, but has none"
    )


def _bert_with_levels(path: Path, **changes: Any) -> None:
    """A BERT of one small layer, with two levels that lie within each other."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    model = transformers.BertForSequenceClassification(config)
    name = "bert.encoder.layer.0.output.dense.weight"
    levels = {}
    for level, kept in (("l2", 32), ("l1", 8)):
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[:, :kept] = True
        levels[level] = {name: mask}
    made = {"architecture": "BertForSequenceClassification", "config": config.to_dict(), **changes}
    save(path, pack_levels(model, levels, height=4, nested=True, **made))


def test_levels_of_a_bert_are_timed(tmp_path: Path) -> None:
    path = tmp_path / "bert.safetensors"
    _bert_with_levels(path)
    result = job.bench(path, tokens=16, threads=1, seconds=0.1)
    assert [(row["method"], row["density"]) for row in result["rows"]] == [("l2", 0.5), ("l1", 0.125)]
    assert set(result["switches"]) == {"resident", "nested", "repack"}
    with pytest.raises(ConfigError, match="tokens must be at most the model's context 32, not 33"):
        job.bench(path, tokens=33, threads=1, seconds=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architecture": "Trainer"},
            r"architecture must be one that transformers [\d.]+ has, not 'Trainer'",
        ),
        ({"config": {}}, "must hold a model of text to be timed, with a vocabulary"),
    ],
)
def test_models_that_cannot_be_timed(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "bert.safetensors"
    _bert_with_levels(path, **changes)
    with pytest.raises(ArtifactError, match=words):
        job.bench(path, tokens=16, threads=1, seconds=0.1)
