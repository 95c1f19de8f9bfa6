"""Pruned and packed checkpoints on disk."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip(
    "transformers", reason="the Hugging Face extra is not installed: pip install 'retrim[hf]'"
)

from retrim.artifact import load
from retrim.errors import ArtifactError, ConfigError, RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import BlockColumns, BlockRows, Channels, Elements, Filters, Within
from retrim.torch import PackedLinear
from retrim.torch.huggingface import RetrimConfig, pack_pretrained, plan_for, save_pruned

FAMILIES = ("bert", "roberta", "distilbert", "gpt2")
STRUCTURE = BlockColumns(rows=32)
IDS = torch.randint(2, 61, (3, 12), generator=torch.Generator().manual_seed(3))
MASK = (torch.arange(12) < torch.tensor([[12], [7], [9]])).long()


def hardened(model: Any, structure: Any = STRUCTURE, density: Any = 0.25) -> Magnitude:
    pruner = Magnitude()
    pruner.prepare(model, plan_for(model, structure, density))
    pruner.harden()
    return pruner


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(IDS, attention_mask=MASK).logits
    return found


def auto(task: str = "classes") -> Any:
    import transformers as hf

    return hf.AutoModelForCausalLM if task == "lm" else hf.AutoModelForSequenceClassification


@pytest.fixture
def saved(make_model: Any, tmp_path: Path) -> Path:
    model = make_model()
    save_pruned(model, hardened(model), tmp_path / "pruned")
    return tmp_path / "pruned"


@pytest.fixture
def packed(saved: Path) -> Path:
    return pack_pretrained(saved, saved.parent / "packed")


@pytest.mark.parametrize(
    ("family", "task"), [*((name, "classes") for name in FAMILIES), ("gpt2", "lm"), ("bert", "lm")]
)
def test_saved_packed_and_loaded_again(family: str, task: str, make_model: Any, tmp_path: Path) -> None:
    model = make_model(family, task=task, is_decoder=task == "lm")
    pruner = hardened(model)
    wanted = logits(model)
    save_pruned(model, pruner, tmp_path / "pruned")
    again = auto(task).from_pretrained(tmp_path / "pruned")
    assert torch.equal(logits(again), wanted)
    assert pack_pretrained(tmp_path / "pruned", tmp_path / "packed") == tmp_path / "packed"
    fast, told = auto(task).from_pretrained(tmp_path / "packed", output_loading_info=True)
    assert type(fast) is type(model)
    assert not any(told.values())
    names = {name for name, module in fast.named_modules() if isinstance(module, PackedLinear)}
    taken = {"gpt2": "gelu_tanh"}.get(family, "gelu")
    fusions = fast.fusions()
    assert len(fusions) == 2  # of each of the two blocks
    for layer, activation in fusions.items():
        assert fast.get_submodule(layer).activation == taken
        assert isinstance(fast.get_submodule(activation), torch.nn.Identity)
    assert names == {target.name.removesuffix(".weight") for target in pruner.targets}
    found = logits(fast)
    assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("pruned", "packed")]
    assert sizes[1] < 0.7 * sizes[0]
    rest = dict(model.state_dict())
    assert all(torch.equal(value, rest[name]) for name, value in fast.state_dict().items())


@pytest.mark.parametrize(
    ("structure", "density"),
    [
        (Elements(), 0.3),
        (Filters(), 0.5),
        (Channels(), 0.5),
        (BlockColumns(rows=16, budget="global", group=2), 0.3),
        (BlockRows(cols=16), 0.5),
        (Within(BlockColumns(rows=32), Elements()), (0.5, 0.5)),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_every_structure(structure: Any, density: Any, make_model: Any, tmp_path: Path) -> None:
    model = make_model("distilbert")
    save_pruned(model, hardened(model, structure, density), tmp_path / "pruned")
    fast = auto().from_pretrained(pack_pretrained(tmp_path / "pruned", tmp_path / "packed"))
    wanted = logits(model)
    assert float((logits(fast) - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_the_manifest(saved: Path) -> None:
    import retrim

    manifest = json.loads((saved / "retrim.json").read_text())
    assert {k: manifest[k] for k in ("format", "version", "retrim", "architecture")} == {
        "format": "retrim.pruned",
        "version": 1,
        "retrim": retrim.__version__,
        "architecture": "BertForSequenceClassification",
    }
    assert len(manifest["weights"]) == 12
    assert manifest["weights"]["bert.encoder.layer.1.intermediate.dense.weight"] == {
        "shape": [64, 32],
        "kind": "linear",
        "structure": {"type": "BlockColumns", "rows": 32, "budget": "balanced"},
        "density": 0.25,
        "reached": 0.25,
        "aliases": [],
    }


def test_the_artifact_is_retrims_own(packed: Path) -> None:
    artifact = load(packed / "model.safetensors")
    assert artifact.architecture == "BertForSequenceClassification"
    assert artifact.config["model_type"] == "bert"
    assert artifact.density == 0.25 and len(artifact.weights) == 12


def test_what_lies_beside_comes_along(saved: Path) -> None:
    (saved / "tokenizer.json").write_text('{"version": "1.0"}')
    (saved / "vocab.txt").write_text("a\n")
    (saved / "training_args.bin").write_text("x")
    (saved / "trainer_state.json").write_text("{}")
    out = pack_pretrained(saved, saved.parent / "packed")
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"}
    assert load(out / "model.safetensors").tokenizer == '{"version": "1.0"}'
    auto().from_pretrained(out)


def test_bfloat16(saved: Path) -> None:
    out = pack_pretrained(saved, saved.parent / "packed", precisions=("bf16", "fp32"))
    model = auto().from_pretrained(out, dtype=torch.bfloat16)
    wanted = logits(auto().from_pretrained(saved))
    assert logits(model).dtype == torch.bfloat16
    assert float((logits(model).float() - wanted).abs().max()) <= 5e-2 * float(wanted.abs().max())
    half = auto().from_pretrained(out)
    assert float((logits(half) - wanted).abs().max()) <= 2e-2 * float(wanted.abs().max())


def test_a_device_map_of_the_cpu(packed: Path) -> None:
    model = auto().from_pretrained(packed, device_map="cpu")
    assert model.device == torch.device("cpu")
    assert torch.equal(logits(model), logits(auto().from_pretrained(packed)))


def test_text_is_generated_as_before(make_model: Any, tmp_path: Path) -> None:
    model = make_model("gpt2", task="lm").eval()
    save_pruned(model, hardened(model), tmp_path / "pruned")
    fast = auto("lm").from_pretrained(pack_pretrained(tmp_path / "pruned", tmp_path / "packed"))
    asked = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    with torch.inference_mode():
        assert torch.equal(fast.generate(IDS, **asked), model.generate(IDS, **asked))


def test_exported_by_torch(packed: Path) -> None:
    model = auto().from_pretrained(packed).eval()
    program = torch.export.export(model, (IDS,), {"attention_mask": MASK}, strict=False)
    with torch.inference_mode():
        found = program.module()(IDS, attention_mask=MASK).logits
    torch.testing.assert_close(found, logits(model), rtol=1e-4, atol=1e-5)


def refused(kind: type[RetrimError], sentence: str, call: Callable[[], Any]) -> None:
    with pytest.raises(RetrimError) as caught:
        call()
    assert str(caught.value) == sentence
    assert type(caught.value) is kind


def test_what_is_not_hardened(make_model: Any, tmp_path: Path) -> None:
    model, pruner = make_model(), Magnitude()
    pruner.prepare(model, plan_for(model, STRUCTURE, 0.25))
    refused(
        ConfigError,
        "a model must be hardened before it is saved as pruned: call pruner.harden()",
        lambda: save_pruned(model, pruner, tmp_path / "pruned"),
    )
    pruner.harden()
    refused(
        ConfigError,
        "the model must be one of transformers, not Linear: pack it with retrim.pack instead",
        lambda: save_pruned(torch.nn.Linear(2, 2), pruner, tmp_path / "pruned"),
    )
    with torch.no_grad():
        pruner.targets[0].parameter.add_(1)
    refused(
        ArtifactError,
        "bert.encoder.layer.0.attention.self.query.weight: a weight must have its structure "
        f"{STRUCTURE} at density 0.25, but does not: call pruner.step() after every optimiser step, or harden again",
        lambda: save_pruned(model, pruner, tmp_path / "pruned"),
    )
    assert not (tmp_path / "pruned").exists()


def test_no_manifest_or_a_damaged_one(saved: Path, tmp_path: Path) -> None:
    path = saved / "retrim.json"
    good = json.loads(path.read_text())
    for text, wrong in (
        ("{", "is damaged: save the model again"),
        (json.dumps(good | {"version": 2}), "is of another version: upgrade retrim"),
        (json.dumps(good | {"weights": {}}), "is damaged: save the model again"),
    ):
        path.write_text(text)
        refused(
            ArtifactError,
            f"the manifest {str(path)!r} must be of version 1 as save_pruned writes it, but {wrong}",
            lambda: pack_pretrained(saved, tmp_path / "packed"),
        )
    path.unlink()
    refused(
        ArtifactError,
        f"a pruned checkpoint must have a manifest, but {str(path)!r} cannot be read: save it with "
        "retrim.torch.huggingface.save_pruned",
        lambda: pack_pretrained(saved, tmp_path / "packed"),
    )


def test_a_checkpoint_that_is_not_pruned(saved: Path, make_model: Any, tmp_path: Path) -> None:
    make_model().save_pretrained(saved)
    refused(
        ArtifactError,
        "bert.encoder.layer.0.attention.self.query.weight: a weight must have its structure "
        f"{STRUCTURE} at density 0.25, but does not: pack a checkpoint that save_pruned wrote and nobody trained since",
        lambda: pack_pretrained(saved, tmp_path / "packed"),
    )


def test_a_manifest_of_another_model(saved: Path, make_model: Any, tmp_path: Path) -> None:
    make_model("distilbert").save_pretrained(saved)
    refused(
        ArtifactError,
        f"the manifest of {str(saved)!r} must be of its model, DistilBertForSequenceClassification, not of "
        "BertForSequenceClassification: save the model again with save_pruned",
        lambda: pack_pretrained(saved, tmp_path / "packed"),
    )


def test_a_manifest_that_does_not_fit(saved: Path, tmp_path: Path) -> None:
    path = saved / "retrim.json"
    good = json.loads(path.read_text())
    name, weight = next(iter(good["weights"].items()))
    for structure, wrong in (
        ({"type": "Circles"}, "structure type must be one of"),
        ({"type": "BlockColumns", "rows": 7}, "rows of BlockColumns(rows=7, budget='balanced') must divide"),
    ):
        weights = good["weights"] | {name: weight | {"structure": structure}}
        path.write_text(json.dumps(good | {"weights": weights}))
        with pytest.raises(ArtifactError) as caught:
            pack_pretrained(saved, tmp_path / "packed")
        assert str(caught.value).startswith(f"the manifest of {str(saved)!r} does not fit its model: ")
        assert wrong in str(caught.value)


def test_weights_that_are_missing(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = saved / "model.safetensors"
    tensors = load_file(path)
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    save_file(tensors, path, {"format": "pt"})
    refused(
        ArtifactError,
        f"the checkpoint {str(saved)!r} must have all weights of BertForSequenceClassification, but "
        "'bert.encoder.layer.1.output.dense.bias' is missing or of another shape: save the model again, "
        "built as from_pretrained builds it",
        lambda: pack_pretrained(saved, tmp_path / "packed"),
    )
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match="must be as save_pruned wrote them, but cannot be loaded: "):
        pack_pretrained(saved, tmp_path / "packed")


def test_folders_that_are_wrong(saved: Path, packed: Path, tmp_path: Path) -> None:
    refused(
        ConfigError,
        f"a checkpoint must be packed into a folder of its own, not into {str(saved)!r} itself: name another "
        "folder_out",
        lambda: pack_pretrained(saved, saved),
    )
    shutil.copy(saved / "retrim.json", packed)
    refused(
        ArtifactError,
        f"the checkpoint {str(packed)!r} must be dense to be packed, but is quantized or packed already: give the "
        "folder that save_pruned wrote",
        lambda: pack_pretrained(packed, tmp_path / "twice"),
    )
    (tmp_path / "file").write_text("")
    refused(
        ArtifactError,
        f"the folder {str(tmp_path / 'file')!r} must be one that can be written to: File exists",
        lambda: pack_pretrained(saved, tmp_path / "file"),
    )


def test_an_artifact_that_is_damaged(packed: Path) -> None:
    path = packed / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its checksum: the file is damaged; copy it anew"):
        auto().from_pretrained(packed)
    path.write_bytes(content[:5000])
    with pytest.raises(ArtifactError, match="ends within its header: the file is damaged; copy it anew"):
        auto().from_pretrained(packed)


def test_weights_of_another_format(packed: Path, saved: Path) -> None:
    shutil.copy(saved / "model.safetensors", packed)
    path = str(packed / "model.safetensors")
    refused(
        ArtifactError,
        f"artifact {path!r} must be written by retrim, but is another safetensors file: make one with `retrim pack`",
        lambda: auto().from_pretrained(packed),
    )


def test_another_architecture(packed: Path) -> None:
    import transformers as hf

    refused(
        ConfigError,
        "the model must be the packed BertForSequenceClassification, not BertModel: load it with that class, or "
        "with the AutoModel of its task",
        lambda: hf.AutoModel.from_pretrained(packed),
    )
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(ShapeError, match="build it from the artifact's configuration"):
        auto().from_pretrained(packed)


def test_types_and_devices_that_do_not_fit(packed: Path, saved: Path) -> None:
    refused(
        ConfigError,
        "a model packed in fp32 must not be loaded in torch.bfloat16: pass dtype=torch.float32, or pack it in bf16 "
        "or int8 and load it in bfloat16",
        lambda: auto().from_pretrained(packed, dtype=torch.bfloat16),
    )
    refused(
        ConfigError,
        "a packed model must be loaded on the CPU, not on meta: leave device_map out, or load the pruned checkpoint",
        lambda: auto().from_pretrained(packed, device_map={"": "meta"}),
    )
    refused(
        ConfigError,
        "a checkpoint must be packed before it is loaded with RetrimConfig: "
        "retrim.torch.huggingface.pack_pretrained(folder, packed_folder), and load that without it",
        lambda: auto().from_pretrained(saved, quantization_config=RetrimConfig()),
    )
    refused(ConfigError, "quant_method must be 'retrim', not 'x'", lambda: RetrimConfig(quant_method="x"))


def test_a_packed_model_is_not_saved_or_trained(packed: Path, make_trainer: Any, tmp_path: Path) -> None:
    model = auto().from_pretrained(packed)
    with pytest.raises(ValueError, match="quantized with retrim and is not serializable"):
        model.save_pretrained(tmp_path / "again")
    with pytest.raises(ValueError, match="cannot perform fine-tuning on purely quantized models"):
        make_trainer(model)


def test_a_plan_of_ones_own(make_model: Any, tmp_path: Path) -> None:
    model, pruner = make_model(), Magnitude()
    pruner.prepare(model, Plan([Rule(weights="*pooler.dense.weight", structure=Filters(), density=0.5)]))
    pruner.harden()
    save_pruned(model, pruner, tmp_path / "pruned")
    fast = auto().from_pretrained(pack_pretrained(tmp_path / "pruned", tmp_path / "packed"))
    assert isinstance(fast.bert.pooler.dense, PackedLinear)
    torch.testing.assert_close(logits(fast), logits(model), rtol=1e-4, atol=1e-5)


def test_a_weight_that_no_layer_runs_packed(tmp_path: Path) -> None:
    import transformers as hf

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model, pruner = hf.ViTForImageClassification(hf.ViTConfig(image_size=32, **small)), Magnitude()
    rule = Rule(weights="*projection.weight", structure=Filters(), density=0.5)
    pruner.prepare(model, Plan([rule]))
    pruner.harden()
    save_pruned(model, pruner, tmp_path / "pruned")
    with pytest.raises(
        ConfigError, match=r"projection.weight: a packed weight must be that of a linear layer"
    ):
        pack_pretrained(tmp_path / "pruned", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_another_model_than_was_pruned(make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    pruner = hardened(model)
    with pytest.raises(
        ConfigError, match=r"the one that the pruner was prepared on, but '.*' is not its weight"
    ):
        save_pruned(make_model(), pruner, tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()


def test_a_fresh_process_needs_only_the_import_of_retrim(packed: Path) -> None:
    program = (
        "import sys, retrim.torch\n"
        "assert not any(name.startswith('transformers') for name in sys.modules)\n"
        "from transformers import AutoModelForSequenceClassification as Auto\n"
        f"model = Auto.from_pretrained({str(packed)!r})\n"
        "assert sum(isinstance(m, retrim.torch.PackedLinear) for m in model.modules()) == 12\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_a_pruned_checkpoint_needs_no_retrim(saved: Path) -> None:
    program = (
        "import sys\n"
        "from transformers import AutoModelForSequenceClassification as Auto\n"
        f"model = Auto.from_pretrained({str(saved)!r})\n"
        "assert not any(name.startswith('retrim') for name in sys.modules)\n"
        "weight = model.bert.encoder.layer[0].output.dense.weight\n"
        "assert int((weight != 0).sum()) == weight.numel() // 4\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpoints_of_other_types_load_as_they_are(
    dtype: torch.dtype, precision: str, make_model: Any, tmp_path: Path
) -> None:
    model = make_model().to(dtype)
    save_pruned(model, hardened(model), tmp_path / "pruned")
    pack_pretrained(tmp_path / "pruned", tmp_path / "packed", precisions=(precision,))
    packed = auto().from_pretrained(tmp_path / "packed")
    half = dtype == torch.bfloat16 and precision == "bf16"
    assert packed.dtype == (torch.bfloat16 if half else torch.float32)
    wanted = logits(model.float())
    assert float((logits(packed).float() - wanted).abs().max()) <= 0.03 * float(wanted.abs().max())


def test_packed_models_are_pickled(packed: Path) -> None:
    model = auto().from_pretrained(packed)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(logits(again), logits(model))
