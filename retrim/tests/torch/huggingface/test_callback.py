"""Pruning inside transformers' Trainer."""

from __future__ import annotations

import copy
import json
import math
import os
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

from retrim.errors import CheckpointError, ConfigError
from retrim.prune import (
    ADMM,
    SLR,
    CubicSchedule,
    Magnitude,
    OptimalBrainSurgeon,
    Plan,
    Pruner,
    ReweightedGroupLasso,
    Rule,
)
from retrim.structures import BlockColumns
from retrim.torch.huggingface import PruneCallback, loss_probe, plan_for

STRUCTURE = BlockColumns(rows=16)
PRUNERS: dict[str, Callable[[], Pruner]] = {
    "magnitude": lambda: Magnitude(CubicSchedule(begin=1, end=6, every=2)),
    "lasso": lambda: ReweightedGroupLasso(refresh_every=2),
    "lasso by inputs": lambda: ReweightedGroupLasso(over=6, by_inputs=True, batches=2),
    "surgeon": lambda: OptimalBrainSurgeon(CubicSchedule(begin=0, end=6, every=3), batches=2),
    "admm": lambda: ADMM(rho=0.05, every=2),
    "slr": lambda: SLR(every=2),
    "slr by inputs": lambda: SLR(every=2, pull=0.1, by_inputs=True, batches=2),
}


def callback(model: Any, name: str, data: list[dict[str, torch.Tensor]], **options: Any) -> PruneCallback:
    batch = {key: torch.stack([row[key] for row in data[:8]]) for key in data[0]}
    return PruneCallback(
        plan_for(model, STRUCTURE, 0.25), PRUNERS[name](), probe=loss_probe(model, [batch]), **options
    )


def same(first: Any, second: Any) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", PRUNERS)
def test_weights_reach_their_density_and_keep_it(
    name: str, make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    model = make_model()
    pruning = callback(model, name, sentences)
    seen: list[float] = []

    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            weight = pruning.pruner.targets[0].parameter
            seen.append(float((weight != 0).double().mean()))

    trainer = make_trainer(model, pruning, Watch())
    trainer.train()
    assert len(pruning.pruner.targets) == 12 and pruning.pruner.hardened
    assert pruning.pruner.unmeasured == ()
    assert all(share == 0.25 for share in seen[5:])
    assert seen[1] > 0.25
    for target in pruning.pruner.targets:
        assert int((target.parameter != 0).sum()) == target.parameter.numel() // 4
    assert [h.density for h in pruning.hardened] == [0.25] * 12
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in logs] == [3, 6, 9, 12]
    assert logs[0]["prune_residual"] > 0 and logs[-1]["prune_residual"] == 0
    assert logs[-1]["prune_penalty"] == 0
    assert (logs[0]["prune_penalty"] > 0) == (
        name in ("lasso", "lasso by inputs", "admm")
    ) or name.startswith("slr")


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("stop", [4, 8])
def test_a_resumed_run_gives_the_same_bits(
    name: str, stop: int, make_model: Any, make_trainer: Any, sentences: Any, tmp_path: Path
) -> None:
    plain = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    whole = make_model(**plain)
    make_trainer(whole, callback(whole, name, sentences), save_steps=stop, save_strategy="steps").train()
    folder = tmp_path / "run" / f"checkpoint-{stop}"
    assert (folder / "pruner.safetensors").is_file()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    resumed = make_model(seed=5, **plain)
    make_trainer(resumed, callback(resumed, name, sentences)).train(resume_from_checkpoint=str(folder))
    assert same(whole, resumed)


def test_a_checkpoint_from_elsewhere(
    make_model: Any, make_trainer: Any, sentences: Any, tmp_path: Path
) -> None:
    whole = make_model()
    make_trainer(whole, callback(whole, "admm", sentences), save_steps=4, save_strategy="steps").train()
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "run" / "checkpoint-4", moved)
    resumed = make_model(seed=1)
    pruning = callback(resumed, "admm", sentences, resume_from=moved)
    make_trainer(resumed, pruning, folder="other").train(resume_from_checkpoint=str(moved))
    assert same(whole, resumed)


def test_accumulated_steps_are_those_of_a_plain_loop(
    make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    trained, plain = make_model(), make_model()
    steps = {"optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.5, "max_steps": 4}
    pruning = callback(trained, "lasso", sentences, harden_at=3)
    trainer = make_trainer(
        trained,
        pruning,
        **steps,
        learning_rate=0.1,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    pruner = PRUNERS["lasso"]()
    pruner.prepare(plain, plan_for(plain, STRUCTURE, 0.25))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    plain.train()
    for step in range(4):
        for part in range(2):
            rows = sentences[8 * step + 4 * part :][:4]
            batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
            (plain(**batch).loss / 2).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        pruner.add_gradient_()
        optimizer.step()
        pruner.step()
        optimizer.zero_grad()
        if step == 2:
            pruner.harden()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    weight = trained.bert.encoder.layer[0].output.dense.weight
    assert int((weight != 0).sum()) == weight.numel() // 4


def test_autocast_in_bfloat16(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model("distilbert")
    pruning = callback(model, "admm", sentences)
    make_trainer(model, pruning, bf16=True, max_steps=4).train()
    assert all(t.parameter.dtype == torch.float32 for t in pruning.pruner.targets)
    assert all(int((t.parameter != 0).sum()) == t.parameter.numel() // 4 for t in pruning.pruner.targets)


@pytest.mark.parametrize(("moment", "step"), [(0, 0), (0.0, 0), (1, 1), (0.5, 2), (1.0, 4), (4, 4)])
def test_when_weights_are_hardened(
    moment: float, step: int, make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    model = make_model()
    pruning = callback(model, "magnitude", sentences, harden_at=moment)
    pruning.pruner = Magnitude()
    seen = []
    harden = pruning._harden
    pruning._harden = lambda state: (seen.append(pruning.pruner._steps), harden(state))  # type: ignore
    make_trainer(model, pruning, max_steps=4).train()
    assert seen == [step] and pruning.pruner.hardened


def test_the_best_checkpoint_is_a_pruned_one(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    pruning = callback(model, "lasso", sentences, harden_at=4)
    trainer = make_trainer(
        model,
        pruning,
        max_steps=6,
        learning_rate=1e-8,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        more={"eval_dataset": sentences},
    )
    trainer.train()
    assert trainer.state.best_global_step in (4, 6)
    assert all(int((t.parameter != 0).sum()) == t.parameter.numel() // 4 for t in pruning.pruner.targets)


def refused(kind: type[Exception], sentence: str, call: Callable[[], Any]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize("moment", [-1, 1.5, True, "half", math.nan])
def test_moments_that_are_none(moment: Any, make_model: Any) -> None:
    refused(
        ConfigError,
        f"harden_at must be a share of the steps, 0.0 to 1.0, or a whole number of them >= 0, not {moment!r}",
        lambda: PruneCallback(plan_for(make_model(), STRUCTURE, 0.25), Magnitude(), harden_at=moment),
    )


def test_a_moment_after_the_end(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    refused(
        ConfigError,
        "harden_at must be at most the 12 steps of training, not 13: weights would never be pruned",
        make_trainer(model, callback(model, "lasso", sentences, harden_at=13)).train,
    )


def test_slr_without_a_probe(make_model: Any) -> None:
    refused(
        ConfigError,
        "SLR must be given a probe, a function of the mean loss over fixed batches: "
        "PruneCallback(plan, pruner, probe=loss_probe(model, batches))",
        lambda: PruneCallback(plan_for(make_model(), STRUCTURE, 0.25), SLR()),
    )


def test_a_model_that_is_pruned_already(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    make_trainer(model, callback(model, "lasso", sentences), max_steps=2).train()
    refused(
        ConfigError,
        "bert.encoder.layer.0.attention.self.query.weight: a weight must be dense when pruning to density 0.25 "
        "begins, but 75% of it is zero: start from a dense checkpoint, or go on with "
        "trainer.train(resume_from_checkpoint=...)",
        make_trainer(model, callback(model, "lasso", sentences), max_steps=2).train,
    )


def test_a_weight_that_is_an_embedding_too(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model("gpt2", task="lm", vocab_size=64)
    plan = Plan([Rule(weights="lm_head.weight", structure=STRUCTURE, density=0.5)])
    refused(
        ConfigError,
        "a weight must not be tied to an embedding to be pruned, but 'transformer.wte.weight' and 'lm_head.weight' "
        "are one: leave it out of the plan, or set tie_word_embeddings=False in the configuration",
        make_trainer(model, PruneCallback(plan, Magnitude())).train,
    )


def test_states_that_do_not_belong(
    make_model: Any, make_trainer: Any, sentences: Any, tmp_path: Path
) -> None:
    model = make_model()
    saving = {"save_steps": 2, "save_strategy": "steps", "max_steps": 4}
    make_trainer(model, callback(model, "lasso", sentences), **saving).train()
    make_trainer(
        other := make_model(seed=2), callback(other, "lasso", sentences), folder="b", **saving
    ).train()
    folder = tmp_path / "run" / "checkpoint-2"
    path = folder / "pruner.safetensors"
    kept = path.read_bytes()

    def resume(name: str = "lasso", **options: Any) -> Callable[[], Any]:
        again = make_model()
        trainer = make_trainer(again, callback(again, name, sentences, **options), max_steps=4)
        return lambda: trainer.train(resume_from_checkpoint=str(folder))

    refused(CheckpointError, "the checkpoint must be of ADMM, not of ReweightedGroupLasso", resume("admm"))
    elsewhere = tmp_path / "b" / "checkpoint-2"
    refused(
        CheckpointError,
        f"the pruner's state {str(elsewhere / 'pruner.safetensors')!r} must belong to the weights that training goes "
        "on from, but was saved with others: name the right folder in PruneCallback(resume_from=...)",
        resume(resume_from=elsewhere),
    )
    damaged = f"the pruner's state {str(path)!r} is damaged or no such state: resume from an older checkpoint"
    for content in (kept[:100], b"", b"{}" * 50):
        path.write_bytes(content)
        refused(CheckpointError, damaged, resume())
    path.unlink()
    refused(
        CheckpointError,
        f"the checkpoint must hold the pruner's state {str(path)!r}, but there is no such file: resume from an "
        "older checkpoint, or name the folder in PruneCallback(resume_from=...)",
        resume(),
    )


def test_weights_that_are_sharded(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    trainer = make_trainer(model, callback(model, "lasso", sentences))
    trainer.args.fsdp = "full_shard"
    with pytest.raises(ConfigError) as caught:
        trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)
    assert str(caught.value) == (
        "pruning must see whole weights, but fsdp is set, which shards them: train in one process or with "
        "DistributedDataParallel"
    )


def test_shards_that_accelerate_launch_chose(
    make_model: Any, make_trainer: Any, sentences: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    model = make_model()
    trainer = make_trainer(model, callback(model, "lasso", sentences))
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", DistributedType.DEEPSPEED)
    refused(
        ConfigError,
        "pruning must see whole weights, but deepspeed is set, which shards them: train in one process or with "
        "DistributedDataParallel",
        lambda: trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control),
    )


def test_what_the_trainer_must_not_do(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    pruning = callback(model, "lasso", sentences)
    trainer = make_trainer(model, pruning)

    def begin(model: Any) -> Any:
        return lambda: pruning.on_train_begin(trainer.args, trainer.state, trainer.control, model=model)

    refused(
        ConfigError,
        "pruning must see every step of one model, but the Trainer copies it to several GPUs: start it with torchrun, "
        "or show it one GPU (CUDA_VISIBLE_DEVICES)",
        begin(torch.nn.DataParallel(model)),
    )
    trainer.args.enable_jit_checkpoint = True
    refused(
        ConfigError,
        "enable_jit_checkpoint must be off to prune: its checkpoints lack the pruner's state, and training could not "
        "go on from them",
        begin(model),
    )
    trainer.args.enable_jit_checkpoint = False
    pruning.resume_from = Path("there")
    refused(
        ConfigError,
        "the Trainer must resume where PruneCallback is to, but begins anew: call "
        "trainer.train(resume_from_checkpoint='there'), or leave resume_from out",
        trainer.train,
    )


def test_training_that_ends_dense_is_told(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 4

    model = make_model()
    with pytest.warns(
        UserWarning, match="training ended after 4 steps, before the hard projection at 6: the model"
    ):
        make_trainer(model, callback(model, "lasso", sentences), Stop()).train()


def test_inputs_that_were_not_measured_are_told(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    pruning = callback(model, "surgeon", sentences, harden_at=0)  # before any step
    with pytest.warns(
        UserWarning, match=r"OptimalBrainSurgeon could not measure the inputs of .*query\.weight, "
    ):
        make_trainer(model, pruning).train()


@pytest.mark.parametrize("name", ["surgeon", "lasso by inputs"])
@pytest.mark.parametrize("again", [False, True], ids=["bf16", "computed again for the gradient"])
def test_inputs_are_measured(
    name: str, again: bool, make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    model = make_model()
    pruning = callback(model, name, sentences)
    if again:
        model.activation_checkpointing_enable()
    make_trainer(model, pruning, bf16=not again).train()
    assert pruning.pruner.hardened and pruning.pruner.unmeasured == ()


def test_a_probe_needs_batches_with_labels(make_model: Any, sentences: Any) -> None:
    model = make_model()
    refused(ConfigError, "a probe must have one or more batches, not none", lambda: loss_probe(model, []))
    batch = {key: value[None] for key, value in sentences[0].items()}
    model.train()
    assert loss_probe(model, [batch, batch])() == pytest.approx(float(model(**batch).loss.detach()))
    assert model.training
    del batch["labels"]
    refused(
        ConfigError,
        "a batch of a probe must have labels, so that the model gives a loss, but has input_ids, attention_mask",
        loss_probe(model, [batch]),
    )


PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from retrim.prune import ReweightedGroupLasso
from retrim.structures import BlockColumns
from retrim.torch.huggingface import PruneCallback, plan_for

out, batch = Path(sys.argv[1]), int(sys.argv[2])
resume = sys.argv[3] if len(sys.argv) > 3 else None
torch.manual_seed(0)
config = BertConfig(**json.loads((out / "config.json").read_text()))
model = BertForSequenceClassification(config)
data = torch.load(out / "data.pt", weights_only=True)
args = TrainingArguments(
    output_dir=str(out / f"run-{batch}"), use_cpu=True, report_to="none", disable_tqdm=True, max_steps=6,
    per_device_train_batch_size=batch, learning_rate=1e-2, save_strategy="steps", save_steps=2,
    train_sampling_strategy="sequential", ddp_backend="gloo" if "RANK" in os.environ else None, gradient_accumulation_steps=2,
    dataloader_pin_memory=False, optim="sgd",
)
pruning = PruneCallback(plan_for(model, BlockColumns(rows=16), 0.25), ReweightedGroupLasso(refresh_every=2))
trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[pruning])
trainer.train(resume_from_checkpoint=resume)
name = f"{batch}-{trainer.args.process_index}{'-resumed' if resume else ''}.pt"
torch.save(model.state_dict(), out / name)
"""


@pytest.mark.slow
def test_two_ranks_agree_with_each_other_and_with_one(
    make_model: Any, sentences: Any, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    (tmp_path / "config.json").write_text(json.dumps(make_model().config.to_dict()))
    torch.save(sentences, tmp_path / "data.pt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    resume = str(tmp_path / "run-2" / "checkpoint-2")
    for command, rest in (([sys.executable], ["4"]), (torchrun, ["2"]), (torchrun, ["2", resume])):
        done = subprocess.run(
            [*command, str(script), str(tmp_path), *rest],
            capture_output=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr.decode()
    alone, first, second, again = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True)
        for name in ("4-0", "2-0", "2-1", "2-0-resumed")
    )
    weight = "bert.encoder.layer.0.output.dense.weight"
    assert int((first[weight] != 0).sum()) == first[weight].numel() // 4
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first[name], again[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4)


def test_the_callback_may_be_copied_before_training(make_model: Any, sentences: Any) -> None:
    model = make_model()
    assert isinstance(copy.deepcopy(callback(model, "lasso", sentences)), PruneCallback)


def test_a_second_training_is_refused_and_costs_nothing(
    make_model: Any, make_trainer: Any, sentences: Any, tmp_path: Path
) -> None:
    from retrim.torch.huggingface import save_pruned

    model = make_model()
    pruning = callback(model, "magnitude", sentences)
    trainer = make_trainer(model, pruning)
    trainer.train()
    with pytest.raises(ConfigError, match=r"a weight must be dense when pruning to density 0\.25 begins"):
        trainer.train()
    save_pruned(model, pruning.pruner, tmp_path / "pruned")
    assert (tmp_path / "pruned" / "retrim.json").is_file()


def test_frozen_weights_are_told(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    model = make_model()
    model.bert.encoder.layer[0].requires_grad_(False)
    with pytest.warns(
        UserWarning,
        match=r"^6 of 12 weights to be pruned are frozen \(requires_grad=False\), 'bert.encoder.layer.0.*query.weight' "
        "among them: they are pruned as they stand, and no training makes up for it$",
    ):
        make_trainer(model, callback(model, "magnitude", sentences)).train()


def test_what_is_logged_before_training_stays_as_it_is(
    make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    model = make_model()
    trainer = make_trainer(model, callback(model, "lasso", sentences))
    trainer.log({"loss": 1.0})
    assert "prune_penalty" not in trainer.state.log_history[-1]


@pytest.mark.filterwarnings(
    "default:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo's own
def test_inputs_are_measured_after_an_earlier_compiled_training(
    make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    compiled = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 6}
    make_trainer(make_model(), **compiled).train()
    model = make_model()
    pruning = callback(model, "surgeon", sentences, harden_at=6)
    make_trainer(model, pruning, **compiled).train()
    assert pruning.pruner.unmeasured == ()
