"""Pruning inside transformers' Trainer.

The Trainer calls, once an optimiser step: backward passes (accumulated, averaged
over ranks), clipping, `on_pre_optimizer_step`, the optimiser, `on_optimizer_step`,
zeroing of gradients, `on_step_end`, then logs and checkpoints.  The pruner's calls
go into the same places as in a loop written by hand.

Weights must lie whole on every rank: one process, or DistributedDataParallel; not
FSDP or DeepSpeed, which shard them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from retrim.errors import ConfigError
from retrim.prune import SLR, Hardened, Plan, Probe, Pruner, Target
from retrim.torch.huggingface.state import read_state, weights_digest, write_state

STATE_FILE = "pruner.safetensors"
"""Name of the pruner's state in a checkpoint's folder."""


class PruneCallback(TrainerCallback):
    """Prune a model while transformers' Trainer trains it, harden it, and keep it pruned to the end.

    Parameters
    ----------
    plan : Plan
        See `plan_for`.
    pruner : Pruner
        Prepared by the callback when training begins.
    harden_at : float or int, default 0.5
        When the hard projection comes: a float is a share of all optimiser steps, 0 to 1; a whole number
        is a count of them.  Masked retraining follows.
    probe : callable, optional
        Mean loss over fixed batches, for SLR; see `loss_probe`.
    resume_from : Path or str, optional
        Folder of the checkpoint that the Trainer resumes from, where it is not
        ``checkpoint-STEP`` in its output folder.

    Notes
    -----
    Every checkpoint of the Trainer gets a file ``pruner.safetensors``; with it, a
    resumed run gives the same bits as one that was not interrupted.  Logs get
    ``prune_penalty``, and ``prune_residual``: distance of the weights from their
    structures over their norm.  Hardening makes the Trainer forget its best
    checkpoint so far, which is not pruned.
    """

    def __init__(
        self,
        plan: Plan,
        pruner: Pruner,
        *,
        harden_at: float = 0.5,
        probe: Probe | None = None,
        resume_from: Path | str | None = None,
    ) -> None:
        _check_moment(harden_at)
        if isinstance(pruner, SLR) and probe is None:
            raise ConfigError(
                "SLR must be given a probe, a function of the mean loss over fixed batches: "
                "PruneCallback(plan, pruner, probe=loss_probe(model, batches))"
            )
        self.plan = plan
        self.pruner = pruner
        self.harden_at = harden_at
        self.probe = probe
        self.resume_from = None if resume_from is None else Path(resume_from)
        self.hardened: list[Hardened] = []
        self._harden_step = 0
        self._began = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Take hold of the model, or go on from the checkpoint that the Trainer resumed from.

        Raises
        ------
        ConfigError, ShapeError, DensityError, WeightError
            As `Pruner.prepare` does; if weights are sharded or in several threads' copies, tied to an embedding or
            pruned already; if hardening would come after the last step; if the Trainer does not resume
            though `resume_from` is given, or is to write checkpoints without its callbacks.
        CheckpointError
            If the checkpoint has no state of this pruner and plan for these weights.
        """
        _refuse_copies(model)
        whole = _unwrapped(model)
        _refuse_shards(args, whole)
        _refuse_jit(args)
        if self.resume_from is not None and not state.global_step:
            raise ConfigError(
                f"the Trainer must resume where PruneCallback is to, but begins anew: call "
                f"trainer.train(resume_from_checkpoint={str(self.resume_from)!r}), or leave resume_from out"
            )
        self._harden_step = _step_of(self.harden_at, state.max_steps)
        targets = self.plan.resolve(whole)
        _refuse_embeddings(whole, targets)
        if not state.global_step:
            _refuse_pruned(targets)  # before `prepare`: a pruner that is done keeps what it holds
        _tell_frozen(targets)
        if args.torch_compile or model is not whole:
            torch.compiler.reset()  # code of an earlier training would not call the hooks that measure inputs
        self.pruner.prepare(whole, self.plan)
        self._began = True
        if state.global_step:
            self._restore(args, state)
            return
        if self._harden_step == 0:
            self._harden(state)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the penalty's gradient, after accumulation, averaging and clipping."""
        self.pruner.add_gradient_()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hold weights to the supports, go on with the schedule, harden when it is time."""
        self.pruner.step(self.probe)
        done = state.global_step + 1  # the Trainer counts after this call
        if not self.pruner.hardened and done >= self._harden_step:
            self._harden(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of a training that ended dense."""
        if not self.pruner.hardened:
            warnings.warn(
                f"training ended after {state.global_step} steps, before the hard projection at {self._harden_step}: "
                "the model is not pruned; call pruner.harden(), or train on",
                stacklevel=2,
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the pruner's state into the checkpoint that was just saved."""
        if args.should_save and not state.is_hyper_param_search:
            state_dict = self.pruner.state_dict()
            write_state(_folder(args, state) / STATE_FILE, state_dict, self._digest())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the penalty and the residual to the training loss's entry."""
        if logs is None or "loss" not in logs or not state.is_world_process_zero or not self._began:
            return
        found = {"prune_penalty": self.pruner.penalty(), "prune_residual": residual(self.pruner)}
        logs.update(found)
        state.log_history[-1].update(found)

    def _restore(self, args: TrainingArguments, state: TrainerState) -> None:
        folder = _folder(args, state) if self.resume_from is None else self.resume_from
        self.pruner.load_state_dict(read_state(folder / STATE_FILE, self._digest()))

    def _harden(self, state: TrainerState) -> None:
        self.hardened = self.pruner.harden()
        if self.pruner.unmeasured:
            warnings.warn(
                f"{type(self.pruner).__name__} could not measure the inputs of {', '.join(self.pruner.unmeasured)}: "
                "these weights were pruned by their norms",
                stacklevel=2,
            )
        state.best_metric = state.best_model_checkpoint = state.best_global_step = None

    def _digest(self) -> str:
        return weights_digest(target.parameter for target in self.pruner.targets)


@torch.no_grad()
def residual(pruner: Pruner) -> float:
    """‖W - ΠW‖ / ‖W‖ over all weights of a prepared pruner; 0 once they are hardened."""
    if pruner.hardened:
        return 0.0
    away = whole = 0.0
    for target in pruner.targets:
        matrix = target.matrix()
        projected, _ = target.structure.project(matrix, target.density)
        away += float(torch.linalg.vector_norm(matrix - projected, dtype=torch.float64)) ** 2
        whole += float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) ** 2
    return (away / whole) ** 0.5 if whole else 0.0


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _unwrapped(model: Any) -> nn.Module:
    """The model itself, whatever Accelerate or torch.compile put around it."""
    while isinstance(model, DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    found: nn.Module = model
    return found


def _check_moment(harden_at: float) -> None:
    whole = isinstance(harden_at, int) and not isinstance(harden_at, bool)
    if not (whole and harden_at >= 0) and not (isinstance(harden_at, float) and 0 <= harden_at <= 1):
        raise ConfigError(
            f"harden_at must be a share of the steps, 0.0 to 1.0, or a whole number of them >= 0, not {harden_at!r}"
        )


def _step_of(harden_at: float, steps: int) -> int:
    """Optimiser steps before the hard projection."""
    step = round(harden_at * steps) if isinstance(harden_at, float) else harden_at
    if step > steps:
        raise ConfigError(
            f"harden_at must be at most the {steps} steps of training, not {harden_at}: weights would never be pruned"
        )
    return step


def _refuse_shards(args: TrainingArguments, model: nn.Module) -> None:
    named = [name for name in ("fsdp", "deepspeed") if getattr(args, name, None)]
    kind = PartialState().distributed_type  # `accelerate launch` sets it without a word in the arguments
    named += [kind.value.lower()] if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED) else []
    if any(hasattr(parameter, "placements") for parameter in model.parameters()):  # a DTensor
        named.append("a device mesh")
    if named:
        raise ConfigError(
            f"pruning must see whole weights, but {named[0]} is set, which shards them: train in one process or "
            "with DistributedDataParallel"
        )


def _refuse_copies(model: Any) -> None:
    if isinstance(model, DataParallel):
        raise ConfigError(
            "pruning must see every step of one model, but the Trainer copies it to several GPUs: start it with "
            "torchrun, or show it one GPU (CUDA_VISIBLE_DEVICES)"
        )


def _refuse_jit(args: TrainingArguments) -> None:
    if getattr(args, "enable_jit_checkpoint", False):
        raise ConfigError(
            "enable_jit_checkpoint must be off to prune: its checkpoints lack the pruner's state, and training could "
            "not go on from them"
        )


def _refuse_embeddings(model: nn.Module, targets: list[Target]) -> None:
    for target in targets:
        for name in (target.name, *target.aliases):
            if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding):
                names = " and ".join(repr(n) for n in (target.name, *target.aliases))
                raise ConfigError(
                    f"a weight must not be tied to an embedding to be pruned, but {names} are one: leave it out of "
                    "the plan, or set tie_word_embeddings=False in the configuration"
                )


def _tell_frozen(targets: list[Target]) -> None:
    frozen = [target.name for target in targets if not target.parameter.requires_grad]
    if frozen:
        warnings.warn(
            f"{len(frozen)} of {len(targets)} weights to be pruned are frozen (requires_grad=False), {frozen[0]!r} among "
            "them: they are pruned as they stand, and no training makes up for it",
            stacklevel=3,
        )


def _refuse_pruned(targets: list[Target]) -> None:
    for target in targets:
        weight = target.parameter.detach()
        zeros = int((weight == 0).sum()) / weight.numel()
        if target.reached < 1 and zeros >= 1 - target.reached:
            raise ConfigError(
                f"{target.name}: a weight must be dense when pruning to density {target.reached:.3g} begins, but "
                f"{zeros:.0%} of it is zero: start from a dense checkpoint, or go on with "
                "trainer.train(resume_from_checkpoint=...)"
            )
