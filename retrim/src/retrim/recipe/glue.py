"""Pruning a Hugging Face checkpoint on one of GLUE's tasks: fine-tune, prune, retrain, save, pack, measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_serializer, field_validator
from torch import nn

from retrim.errors import ConfigError, MissingExtraError
from retrim.recipe.comparing import Branch, ComparisonRun, Progress
from retrim.recipe.comparison import (
    AnyMethod,
    Comparison,
    FormPart,
    FormsPart,
    MethodPart,
    RetrainPart,
    StagePart,
)
from retrim.recipe.part import Part, checked, read_toml
from retrim.recipe.schema import DistilPart, valued
from retrim.recipe.tasks import GluePart
from retrim.runtime.host import describe
from retrim.structures import Structure, from_dict
from retrim.torch.latency import measure
from retrim.zoo.glue.finetuning import FineTuning

Say = Callable[[str], None]
_TOKENS = 128  # of the timed runs


class GlueRecipe(Part):
    """How a checkpoint is fine-tuned and pruned, whatever checkpoint and task.

    Parameters
    ----------
    version : 1
    batch, max_length, examples, bucketed, distil
        See `retrim.zoo.glue.finetuning.FineTuning`.
    dense
        Fine-tuning of the dense model; without it, the checkpoint is fine-tuned already.
    prune, retrain
        Training with the pruner up to the hard projection; masked retraining.
    structure, rate
        What the linear weights of all blocks are brought into, and weights over kept weights.
    pruner
        See `retrim.recipe.comparison`.
    """

    version: Literal[1]
    batch: int = Field(default=32, ge=1)
    max_length: int = Field(default=128, ge=8)
    examples: int = Field(default=0, ge=0)
    bucketed: bool = True
    distil: DistilPart | None = None
    dense: StagePart | None = None
    prune: StagePart
    retrain: RetrainPart
    structure: Structure
    rate: float = Field(ge=1, allow_inf_nan=False)
    pruner: AnyMethod = Field(discriminator="type")

    @field_validator("structure", mode="before")
    @classmethod
    def _read_structure(cls, value: Any) -> Any:
        return value if isinstance(value, Structure) else valued(from_dict, value)

    @field_serializer("structure")
    def _write_structure(self, value: Structure) -> dict[str, Any]:
        return value.to_dict()

    def comparison(self, task: str, model: str, data: str | None, globs: list[str], seed: int) -> Comparison:
        """As a comparison of one branch."""
        text = GluePart(
            type="glue",
            task=task,
            model=model,
            data=data,
            batch=self.batch,
            max_length=self.max_length,
            examples=self.examples,
            bucketed=self.bucketed,
            distil=self.distil,
        )
        rules = tuple(FormPart(weights=glob, structure=self.structure) for glob in globs)
        return Comparison(
            version=1,
            task=text,
            dense=self.dense,
            prune=self.prune,
            retrain=self.retrain,
            forms=(FormsPart(name=type(self.structure).__name__, rules=rules, rates=(self.rate,)),),
            methods=(MethodPart(name=self.pruner.type, pruner=self.pruner, seeds=(seed,)),),
        )


def read_glue_recipe(path: Path) -> GlueRecipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
    """
    return checked(GlueRecipe, read_toml(path), str(path))


def run_glue(
    recipe: GlueRecipe,
    task: str,
    model: str,
    data: Path | None,
    out: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Prune `model` on `task`; checkpoints, `pruned/` and `packed/` lie in `out`, and a second call goes on there.

    Raises
    ------
    ConfigError
        If model, task or data are not there, or the model's type has no known plan.
    MissingExtraError
        Without transformers.
    """
    try:
        from retrim.torch.huggingface import plan_for
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"retrim glue needs {error.name}: pip install 'retrim[hf]'") from None
    if data is not None and not data.is_dir():
        raise ConfigError(f"data must be GLUE's folder, but {str(data)!r} is none: name it by --data")
    named = FineTuning(task=task, model=model, data=data).build(0)
    globs = [rule.weights for rule in plan_for(named, recipe.structure, 1 / recipe.rate).rules]
    folder, name = (Path(), None) if data is None else (data.parent, data.name)
    comparison = recipe.comparison(task, model, name, globs, seed)
    run = ComparisonRun(comparison, folder, out, progress)
    baseline = run.baseline()
    branch = Branch(comparison.forms[0], recipe.rate, comparison.methods[0], seed)
    pruned, pruner, row = run.trained(branch)
    sizes, packed = _saved(run, pruned, pruner, out)
    words = torch.randint(5, int(pruned.config.vocab_size), (1, _length(pruned)))  # type: ignore[union-attr,arg-type]
    return {
        "kind": "glue",
        "host": describe(),
        "task": task,
        "model": model,
        "seed": seed,
        "recipe": recipe.model_dump(mode="json"),
        "metric": run.task.metric,
        "baseline": baseline,
        "row": row,
        "packed_score": run.task.score(packed),
        "densities": {target.name: target.reached for target in pruner.targets},
        "bytes": sizes,
        "latency": {"threads": threads, **measure(pruned, packed, words, threads=threads).row()},
    }


def _saved(run: ComparisonRun, model: nn.Module, pruner: Any, out: Path) -> tuple[dict[str, int], nn.Module]:
    """Write the pruned and the packed checkpoint; their sizes, and the packed model as a user loads it."""
    from transformers import AutoModelForSequenceClassification

    from retrim.torch.huggingface import pack_pretrained, save_pruned

    assert isinstance(run.task, FineTuning)  # noqa: S101 - the recipe made it
    save_pruned(model, pruner, out / "pruned")
    run.task.tokenizer.save_pretrained(out / "pruned")
    pack_pretrained(out / "pruned", out / "packed")
    packed: nn.Module = AutoModelForSequenceClassification.from_pretrained(out / "packed")
    files = {name: out / name / "model.safetensors" for name in ("pruned", "packed")}
    return {name: path.stat().st_size for name, path in files.items()}, packed


def _length(model: nn.Module) -> int:
    """Tokens of the timed runs: 128, or as many as the model takes."""
    most = getattr(model.config, "max_position_embeddings", _TOKENS)
    return min(_TOKENS, int(most))
